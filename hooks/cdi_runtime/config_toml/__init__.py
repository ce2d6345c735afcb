# SPDX-License-Identifier: Apache-2.0
"""Reads `/etc/nvidia-container-runtime/config.toml`."""
