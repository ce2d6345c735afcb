# SPDX-License-Identifier: Apache-2.0
"""Hosts whose GPUs have labels and no specs: Jetson, WSL 2, GPUs for virtual machines."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakehost import nvml_mock
from tests.fakehost.gpus import RTX_4090, gpu
from tests.fakehost.kernel import Kernel

LIBCUDA = Path(__file__).with_name("libcuda_mock.c")

JETSON_NANO = {"NAME": '"NVIDIA Tegra X1"', "MEMORY": "4156682240UL", "MAJOR": 5, "MINOR": 3}
ORIN = {"NAME": '"Orin"', "MEMORY": "65893945344UL", "MAJOR": 8, "MINOR": 7}

PASSED_THROUGH = "vfio-pci"
BARS = (
    "0x00000000a0000000 0x00000000a0ffffff 0x0000000000040200",  # 32 bits, 16 MiB
    "0x0000000000000000 0x0000000000000000 0x0000000000000000",
    "0x0000202000000000 0x0000203fffffffff 0x000000000014220c",  # 64 bits, 128 GiB
    "0x0000000000000000 0x0000000000000000 0x0000000000000000",
    "0x0000204000000000 0x0000204001ffffff 0x000000000014220c",  # 64 bits, 32 MiB
    "0x0000000000000000 0x0000000000000000 0x0000000000000000",
    "0x0000204002000000 0x0000204012ffffff 0x000000000014220c",  # not a BAR
)
"""The regions of an H100 with 80 GiB, by sysfs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformHost:
    """A host by its files."""

    root: Path
    libraries: Path
    """The directory of the libraries that NVIDIA's program loads."""

    @property
    def sysfs(self) -> Path:
        return self.root / "sys"


def _host(root: Path) -> PlatformHost:
    for name in ("sys/bus/pci/devices", "dev", "proc", "libraries"):
        (root / name).mkdir(parents=True)
    return PlatformHost(root=root, libraries=root / "libraries")


def _compiled(library: Path, source: Path, *options: str) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library.parent.mkdir(parents=True, exist_ok=True)
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror")
    subprocess.run([compiler, *flags, *options, "-o", library, source], check=True)
    library.chmod(0o644)


def jetson(root: Path, model: dict[str, object], version: int = 12060) -> PlatformHost:
    """A Jetson without NVML, as JetPack 4 and 5 have it."""
    host = _host(root)
    family = host.sysfs / "devices/soc0/family"
    family.parent.mkdir(parents=True)
    family.write_text("Tegra\n")
    library = root / "usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1"
    values = {**model, "VERSION": version}
    _compiled(library, LIBCUDA, *(f"-D{name}={value}" for name, value in values.items()))
    (host.libraries / "libcuda.so.1").symlink_to(library)
    return host


def wsl(root: Path, models: int = 1) -> PlatformHost:
    """WSL 2, whose kernel shows no PCI device."""
    host = _host(root)
    (root / "dev/dxg").touch()
    kernel = Kernel(
        driver_version="550.163.01", gpus=tuple(gpu(index, RTX_4090) for index in range(models))
    )
    library = root / "usr/lib/wsl/lib/libnvidia-ml.so.1"
    library.parent.mkdir(parents=True)
    library.touch()
    nvml_mock.install(library, kernel, kernel.driver_version)
    (host.libraries / library.name).symlink_to(library)
    empty = root / "empty.c"
    empty.write_text("int dxcore;\n")
    _compiled(host.libraries / "libdxcore.so", empty)
    return host


def pci_device(
    host: PlatformHost,
    address: str,
    *,
    driver: str | None = PASSED_THROUGH,
    device: int = 0x2330,
    pci_class: int = 0x030200,
    vendor: int = 0x10DE,
    virtual: bool = False,
) -> Path:
    """Add a PCI device to a host."""
    directory = host.sysfs / f"devices/pci0000:00/{address}"
    directory.mkdir(parents=True)
    values = {"vendor": f"{vendor:#06x}", "device": f"{device:#06x}", "class": f"{pci_class:#08x}"}
    for name, value in {**values, "numa_node": "0", "resource": "\n".join(BARS)}.items():
        (directory / name).write_text(f"{value}\n")
    (directory / "config").write_bytes(bytes(256))
    if driver is not None:
        place = host.sysfs / f"bus/pci/drivers/{driver}"
        place.mkdir(parents=True, exist_ok=True)
        (directory / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    if virtual:
        (directory / "physfn").symlink_to(next(directory.parent.iterdir()).name)
    (host.sysfs / f"bus/pci/devices/{address}").symlink_to(f"../../../devices/pci0000:00/{address}")
    return directory


def passthrough(root: Path, gpus: int = 8) -> PlatformHost:
    """A host of virtual machines: its GPUs are bound to vfio-pci, and no driver is loaded."""
    host = _host(root)
    for index in range(gpus):
        pci_device(host, f"0000:{0x18 + index:02x}:00.0")
    machine = host.sysfs / "class/dmi/id/product_name"
    machine.parent.mkdir(parents=True)
    machine.write_text("PowerEdge XE9680\n")
    return host
