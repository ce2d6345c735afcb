# SPDX-License-Identifier: Apache-2.0
"""`/etc/nvidia-container-runtime/config.toml`."""
