# SPDX-License-Identifier: Apache-2.0
"""Changing an engine's configuration files, and reverting the change."""
