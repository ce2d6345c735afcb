# SPDX-License-Identifier: Apache-2.0
"""The runtime shim, which engines start as their low-level runtime."""
