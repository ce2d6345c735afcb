# SPDX-License-Identifier: Apache-2.0
"""Whether an image's CUDA runs on a host's driver and GPUs, and why."""
