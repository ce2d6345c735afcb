# SPDX-License-Identifier: Apache-2.0
"""WSL 2: the driver of Windows, behind ``/dev/dxg``. It is detected, but not supported."""

from __future__ import annotations

from cdi_gen.host.platforms import UnsupportedPlatformError
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where
from cdi_gen.inventory import WSL, Inventory


def detect(host: Root) -> str | None:
    """Return evidence of WSL 2: the node of the kernel's dxgkrnl, which only WSL 2 has."""
    return "/dev/dxg exists" if host.exists("/dev/dxg") else None


def gather(roots: Roots, where: Where) -> Inventory:  # noqa: ARG001 - as every platform
    """Raise the error that names the platform."""
    raise UnsupportedPlatformError(WSL, detect(roots.host))
