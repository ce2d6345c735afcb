# SPDX-License-Identifier: Apache-2.0
"""The host's device nodes and GPUs."""
