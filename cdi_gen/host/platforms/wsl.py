# SPDX-License-Identifier: Apache-2.0
"""WSL 2: the driver is Windows', behind ``/dev/dxg``. Recognised, and not supported."""

from __future__ import annotations

from cdi_gen.host.platforms import unsupported
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where
from cdi_gen.inventory import PLATFORMS, WSL, Inventory


def detect(host: Root) -> str | None:
    """The node of the kernel's dxgkrnl, which nothing else has."""
    return "/dev/dxg is there" if host.exists("/dev/dxg") else None


def gather(roots: Roots, where: Where) -> Inventory:  # noqa: ARG001 - as every platform
    """Raise the error that names the platform."""
    raise unsupported(PLATFORMS[WSL], detect(roots.host))
