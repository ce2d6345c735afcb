# SPDX-License-Identifier: Apache-2.0
"""Reads images without a daemon: stores of engines, layouts, archives, directories, registries."""
