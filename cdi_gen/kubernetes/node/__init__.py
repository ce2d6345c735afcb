# SPDX-License-Identifier: Apache-2.0
"""Sets up a node: the programs on the host, the engine's handlers, the specs; and undoes it."""
