# SPDX-License-Identifier: Apache-2.0
"""Hosts out of public reports whose platform is easily mistaken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError
from tests.hook.shared_objects import shared_object
from tests.host import driver_tree
from tests.host.driver_tree import SmallHost

pytestmark = pytest.mark.host

GetSmall = Callable[..., SmallHost]


def test_jetson_with_the_modules_of_a_pc_is_a_jetson(small: GetSmall) -> None:
    """ollama/ollama#18067, video-search-and-summarization#1478: JetPack 7.2 (L4T R39) on an Orin.

    The module is loaded, some libraries end in its version, libcuda and NVML do not.
    """
    host = small(architecture="aarch64", version="595.78", gpus=())
    host.text("etc/nv_tegra_release", "# R39 (release), REVISION: 2.0, BOARD: generic\n")
    triplet = "usr/lib/aarch64-linux-gnu"
    for path in (
        *(f"{triplet}/tegra/lib{name}" for name in ("nvidia-ml.so.1", "nvidia-glcore.so.595.78")),
        *(f"{triplet}/tegra/lib{name}" for name in ("GLX_nvidia.so.0", "nvidia-nvvm70.so.595.78")),
        f"{triplet}/nvidia/libcuda.so.1.1",
        "opt/nvidia/l4t-gpu-libs/openrm/libcuda.so.1.1",
    ):
        file = host.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(shared_object(file.name.encode(), "aarch64", needed=()))
    with pytest.raises(CdiGenError, match=r"Tegra platform.*nv_tegra_release"):
        host.look()


WSL_DRIVERS = ("u0420529.inf_amd64_94ad5a6c4d1a04e2", "nv_dispsi.inf_amd64_7cc7738d8e428783")


def test_wsl_with_the_drivers_of_two_vendors_is_wsl(tmp_path: Path) -> None:
    """nvidia-container-toolkit pull request 1890, issue 1739: AMD's driver store beside NVIDIA's."""
    for name in ("dev", *(f"usr/lib/wsl/drivers/{store}" for store in WSL_DRIVERS)):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dev/dxg").touch()
    with pytest.raises(CdiGenError, match="WSL 2"):
        driver_tree.look(tmp_path)


def test_wsl_with_a_driver_for_linux_installed_is_wsl(small: GetSmall, tmp_path: Path) -> None:
    """nvidia-container-toolkit issue 972, NixOS-WSL issue 433: a driver that no module belongs to."""
    host = small()
    host.libraries("usr/lib/x86_64-linux-gnu")
    (tmp_path / "proc/driver/nvidia/version").unlink()
    (tmp_path / "dev/dxg").touch()
    with pytest.raises(CdiGenError, match="WSL 2"):
        host.look()
