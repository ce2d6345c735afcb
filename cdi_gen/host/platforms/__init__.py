# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's platforms: each has its own driver, and its own way to look for it.

One module a platform. ``MODULES`` has them in the order in which they are asked whether the host is
one: a Tegra board may have a card with the driver for Linux, which then is what containers get.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol

from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where
from cdi_gen.inventory import DGPU, TEGRA, WSL, Inventory

MODULES = (DGPU, WSL, TEGRA)
"""The platforms that are recognised, named as ``Inventory.platform`` names them."""


class Platform(Protocol):
    """What each platform's module has."""

    def detect(self, host: Root) -> str | None:
        """By what the host is recognised as this platform; None if it is not one."""

    def gather(self, roots: Roots, where: Where) -> Inventory:
        """The inventory of a host that was recognised.

        Raises:
            LibrariesNotInstalledError: the host may be of another platform.
            CdiGenError: the driver cannot be used, or this version does not support the platform.
        """


def detected(host: Root) -> Iterator[Platform]:
    """The platforms that the host is recognised as. A later one is imported if it is asked for."""
    for name in MODULES:
        platform: Platform = import_module(f"cdi_gen.host.platforms.{name}")
        if platform.detect(host):
            yield platform


def unsupported(platform: str, evidence: str | None) -> CdiGenError:
    """The error of a host whose platform this version does not support."""
    return CdiGenError(
        f"this is {platform} ({evidence}), which this version does not support",
        hint="see docs/differences-from-nvidia-ctk.md",
        code="CDG-H002",
    )
