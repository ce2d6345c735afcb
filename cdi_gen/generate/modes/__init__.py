# SPDX-License-Identifier: Apache-2.0
"""The modes of `cdi-gen generate`, named as nvidia-ctk names its own."""
