# SPDX-License-Identifier: Apache-2.0
"""The files of the host's NVIDIA driver."""
