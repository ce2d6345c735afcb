# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's platforms. Each platform has its own driver, and a module that searches for it.

``MODULES`` has the platforms in the order of detection. If a Tegra board has a card with the driver
for Linux, containers get the card.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol

from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where
from cdi_gen.inventory import DGPU, PLATFORMS, TEGRA, WSL, Inventory

MODULES = (DGPU, WSL, TEGRA)
"""The platforms that are detected, with their names in ``Inventory.platform``."""


class Platform(Protocol):
    """The interface of each platform's module."""

    def detect(self, host: Root) -> str | None:
        """Return the evidence that the host is this platform; None if it is not."""

    def gather(self, roots: Roots, where: Where) -> Inventory:
        """Return the inventory of a host that was detected as this platform.

        Raises:
            LibrariesNotInstalledError: the host may be of another platform.
            CdiGenError: the driver cannot be used, or this version does not support the platform.
        """


def detected(host: Root) -> Iterator[Platform]:
    """Yield the platforms of the host. A platform's module is imported when its turn comes."""
    for name in MODULES:
        platform: Platform = import_module(f"cdi_gen.host.platforms.{name}")
        if platform.detect(host):
            yield platform


class UnsupportedPlatformError(CdiGenError):
    """This version generates no specs for the platform of the host."""

    code = "CDG-H002"

    def __init__(self, platform: str, evidence: str | None) -> None:
        super().__init__(
            f"this is {PLATFORMS[platform]} ({evidence}), which this version does not support",
            hint="generate the spec with NVIDIA's program: nvidia-ctk cdi generate",
        )
        self.platform = platform
