# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen metrics`: what GPUs do, and what each container does with its GPUs, for Prometheus."""
