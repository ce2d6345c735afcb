# SPDX-License-Identifier: Apache-2.0
"""Editing JSON and TOML text without touching the rest of it."""
