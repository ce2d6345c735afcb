# SPDX-License-Identifier: Apache-2.0
"""The driver capabilities that a container can ask for, and that config.toml can list."""

from __future__ import annotations

SUPPORTED = ("compute", "utility", "video", "graphics", "display", "ngx", "compat32")
"""The capabilities of NVIDIA's runtime, in the order in which a container gets them."""
KNOWN = (*SUPPORTED, "mps")
"""`mps` is cdi-gen's own, and given where config.toml lists it; NVIDIA's has it in `compute`."""
DEFAULT = frozenset({"compute", "utility"})
ALL, NONE = "all", "none"
