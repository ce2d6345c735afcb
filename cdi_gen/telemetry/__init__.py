# SPDX-License-Identifier: Apache-2.0
"""Measures GPUs and MIG devices with NVML, for `cdi-gen metrics` and `cdi-gen top`."""
