# SPDX-License-Identifier: Apache-2.0
"""The hook that OCI runtimes run as root at `createContainer`, with the standard library only."""
