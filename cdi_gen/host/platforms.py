# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's platforms whose driver has another form, and which this version does not serve."""

from __future__ import annotations

from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root


def unsupported(host: Root) -> CdiGenError | None:
    """The error of a host whose platform is the reason that no driver was found; else None.

    A Tegra board may have a card with the usual driver, so ask only where that is not found.
    """
    for name, is_here in (("WSL 2", _is_wsl), ("a Tegra platform (Jetson)", _is_tegra)):
        evidence = is_here(host)
        if evidence:
            return CdiGenError(
                f"this is {name} ({evidence}), which this version does not support",
                hint="see docs/differences-from-nvidia-ctk.md",
                code="CDG-H002",
            )
    return None


def _is_wsl(host: Root) -> str | None:
    return "/dev/dxg is there" if _there(host, "/dev/dxg") else None


def _is_tegra(host: Root) -> str | None:
    """What NVIDIA's toolkit goes by, and the compatible string of every Tegra board."""
    if _there(host, "/etc/nv_tegra_release"):
        return "/etc/nv_tegra_release is there"
    for path in ("/sys/devices/soc0/family", "/proc/device-tree/compatible"):
        try:
            text = host.read_text(path, 4096).lower()
        except OSError:
            continue
        if "tegra" in text:
            return f"{path} names it"
    return None


def _there(host: Root, path: str) -> bool:
    try:
        host.lstat(path)
    except OSError:
        return False
    return True
