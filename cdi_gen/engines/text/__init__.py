# SPDX-License-Identifier: Apache-2.0
"""Edits single values of JSON and TOML texts; the rest of the text is unchanged."""
