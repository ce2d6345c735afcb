# SPDX-License-Identifier: Apache-2.0
"""Resolves a container's request to container edits: prepared specs, and the devices in them."""
