# SPDX-License-Identifier: Apache-2.0
"""A container's root file system: resolved, changed and listed through descriptors."""
