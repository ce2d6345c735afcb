# SPDX-License-Identifier: Apache-2.0
"""Installs the programs of hooks/, runs the hooks by hand, and prepares the runtime shim's data."""
