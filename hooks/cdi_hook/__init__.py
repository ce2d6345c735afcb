# SPDX-License-Identifier: Apache-2.0
"""What OCI runtimes run as root at `createContainer`: the standard library only, one process."""
