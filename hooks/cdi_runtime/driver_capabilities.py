# SPDX-License-Identifier: Apache-2.0
"""The driver capabilities that a container can request and that config.toml can list."""

from __future__ import annotations

SUPPORTED = ("compute", "utility", "video", "graphics", "display", "ngx", "compat32")
"""The capabilities of NVIDIA's runtime, in the order in which a container gets them."""
KNOWN = (*SUPPORTED, "mps")
"""`mps` is an addition of cdi-gen, given only if config.toml lists it. In NVIDIA's runtime it is
part of `compute`."""
DEFAULT = frozenset({"compute", "utility"})
ALL, NONE = "all", "none"
