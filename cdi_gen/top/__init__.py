# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen top`: containers and GPUs in a terminal, refreshing."""
