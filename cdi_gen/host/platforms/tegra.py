# SPDX-License-Identifier: Apache-2.0
"""Tegra: an integrated GPU with its own driver. It is detected, but not supported."""

from __future__ import annotations

from cdi_gen.host.platforms import UnsupportedPlatformError
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where
from cdi_gen.inventory import TEGRA, Inventory

RELEASE = "/etc/nv_tegra_release"
NAMING_FILES = ("/sys/devices/soc0/family", "/proc/device-tree/compatible")


def detect(host: Root) -> str | None:
    """Return evidence of Tegra: the files that NVIDIA's toolkit checks, or the device tree."""
    if host.exists(RELEASE):
        return f"{RELEASE} exists"
    for path in NAMING_FILES:
        try:
            text = host.read_text(path, 4096).lower()
        except OSError:
            continue
        if "tegra" in text:
            return f"{path} contains 'tegra'"
    return None


def gather(roots: Roots, where: Where) -> Inventory:  # noqa: ARG001 - as every platform
    """Raise the error that names the platform."""
    raise UnsupportedPlatformError(TEGRA, detect(roots.host))
