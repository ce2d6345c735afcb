# SPDX-License-Identifier: Apache-2.0
"""The named hosts: a driver, a layout and a kernel each, built into a directory."""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.fakehost import driver_packages, layouts, nvml_mock
from tests.fakehost.gpus import (
    A100,
    H200,
    RTX_4090,
    SHARED_INSTANCE,
    T4,
    Gpu,
    gpu,
    headless,
    several,
    split,
)
from tests.fakehost.kernel import Kernel, write

SOCKETS = ("nvidia-persistenced/socket", "nvidia-fabricmanager/socket")

UNUSED_SECONDS = 24 * 3600
"""A build that was not used for so long is removed. Another checkout may be using a newer one."""

# The versions, GPUs and paths of a host's kernel are filled in from the host.
LIKE_MOST = Kernel(driver_version="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host by description."""

    driver: str
    """Name in ``driver_packages.DRIVER_SETS``."""
    layout: str = "flat"
    gpus: tuple[Gpu, ...] = ()
    module_version: str | None = None
    """Version of the loaded module where it is not the libraries'."""
    kernel: Kernel = LIKE_MOST
    """The kernel's side; its versions, GPUs and paths come from the other fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeHost:
    """A host that was laid out."""

    name: str
    root: Path
    host: Host
    kernel: Kernel
    driver_version: str
    """The version of the driver's libraries."""
    driver_root: Path
    """The root of the driver's files: ``root``, except in the layout of NVIDIA's GPU operator."""
    nvml: Path
    """The mock of NVML, at the path of the host's real ``libnvidia-ml.so.VERSION``."""

    def resolve(self, path: str) -> str:
        """An absolute ``path`` of the host with its symbolic links resolved inside the host.

        Raises:
            FileNotFoundError: something on the way does not exist.
        """
        todo, done = path.strip("/").split("/"), ""
        for _ in range(4096):
            if not todo:
                return done or "/"
            part, *todo = todo
            if part in {"", "."}:
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = Path(f"{self.root}{done}/{part}")
            if here.is_symlink():
                text = str(here.readlink())
                todo = [*text.split("/"), *todo]
                done = "" if text.startswith("/") else done
            elif here.exists():
                done = f"{done}/{part}"
            else:
                raise FileNotFoundError(f"{path}: no {done}/{part} in {self.name}")
        raise FileNotFoundError(f"{path}: links without an end in {self.name}")


_550_8 = Host(driver="550-full", gpus=several(8))

HOSTS = {
    "550-1gpu": Host(driver="550-full", gpus=several(1)),
    "550-8gpu": _550_8,
    "550-16gpu": Host(driver="550-full", gpus=several(16)),
    "550-nogpu": Host(driver="550-full"),
    "550-debian": Host(driver="550-full", layout="debian", gpus=several(8)),
    "550-lib64": Host(driver="550-full", layout="lib64", gpus=several(2, RTX_4090)),
    "550-arch": Host(driver="550-full", layout="arch", gpus=several(2)),
    # The majors, the address and the missing DRM of the machine that has this layout.
    "550-usr-local": Host(
        driver="550-full",
        layout="usr-local",
        gpus=(headless(gpu(0, H200, pci_address="0000:00:06.0", numa_node=-1)),),
        kernel=Kernel(
            driver_version="",
            modeset=False,
            uvm_major=238,
            nvswitch_major=239,
            caps_major=241,
            imex_major=242,
        ),
    ),
    "550-operator": Host(driver="550-full", layout="operator", gpus=several(2)),
    "550-nixos": Host(driver="550-full", layout="nixos", gpus=several(1, RTX_4090)),
    "550-ostree": Host(driver="550-full", layout="ostree", gpus=several(1, RTX_4090)),
    "550-server": Host(
        driver="550-server",
        gpus=tuple(headless(each) for each in several(4)),
        kernel=Kernel(driver_version="", modeset=False),
    ),
    "550-hgx": replace(
        _550_8,
        kernel=Kernel(
            driver_version="",
            nvswitches=4,
            imex_channels=4,
            sockets=SOCKETS,
            nvidia_fs=16,
            rdma_cards=8,
            gdrcopy=True,
        ),
    ),
    "550-mig56": replace(_550_8, gpus=tuple(split(index) for index in range(8))),
    # MIG off, on with three compute instances in one GPU instance, on and empty.
    "550-mig-mixed": replace(
        _550_8,
        gpus=(
            gpu(0, A100),
            gpu(1, A100, mig_enabled=True, mig=SHARED_INSTANCE),
            gpu(2, A100, mig_enabled=True),
        ),
    ),
    # MIG on and empty, of which procfs has no word; and a GPU that cannot be divided.
    "550-mig-empty": replace(
        _550_8, gpus=(gpu(0, A100), gpu(1, A100, mig_enabled=True), gpu(2, RTX_4090))
    ),
    "550-permuted": replace(
        _550_8,
        gpus=tuple(
            gpu(index, minor=minor, drm_card=1 + minor, drm_render=128 + minor)
            for index, minor in enumerate((2, 0, 3, 1))
        ),
    ),
    "550-broken": replace(
        _550_8,
        gpus=(
            gpu(0),
            gpu(1, information="unknown", nvml_handle_code=nvml_mock.GPU_IS_LOST),
            gpu(2, device_node=False),
            gpu(3, information="unreadable", nvml_query_code=nvml_mock.GPU_IS_LOST),
            gpu(4),
        ),
    ),
    "550-excluded": replace(_550_8, gpus=(gpu(0), headless(gpu(1, excluded=True)), gpu(2))),
    "550-split": replace(_550_8, gpus=several(1), module_version="535.261.03"),
    "550-unloaded": replace(
        _550_8,
        gpus=(headless(gpu(0)),),
        kernel=Kernel(driver_version="", loaded=False, nvml_init_code=nvml_mock.DRIVER_NOT_LOADED),
    ),
    "535-bookworm": Host(driver="535-full", layout="debian", gpus=several(2, A100)),
    "535-tesla": Host(driver="535-tesla", layout="debian", gpus=several(2, A100)),
    "470-tesla": Host(
        driver="470-tesla",
        layout="debian",
        gpus=several(2, T4),
        kernel=Kernel(driver_version="", open_module=False),
    ),
}


def build(name: str, into: Path) -> FakeHost:
    """Lay out the host called ``name`` as the directory ``into``, which must not exist.

    Raises:
        DriverRootUnavailableError: its driver cannot be had on this machine.
    """
    host = HOSTS[name]
    driver = driver_packages.driver_root(host.driver)
    layouts.LAYOUTS[host.layout].lay_out(driver, into)
    built = describe(name, into)
    write(built.kernel, into)
    nvml_mock.install(built.nvml, built.kernel, built.driver_version)
    return built


def describe(name: str, root: Path) -> FakeHost:
    """What ``build`` answers, for a host that was laid out before."""
    host = HOSTS[name]
    layout = layouts.LAYOUTS[host.layout]
    version = driver_packages.driver_version(driver_packages.driver_root(host.driver))
    kernel = replace(
        host.kernel,
        driver_version=host.module_version or version,
        gpus=host.gpus,
        firmware_path=layout.firmware_path,
        device_roots=layout.device_roots,
    )
    (nvml,) = (
        path
        for path in root.rglob(f"libnvidia-ml.so.{version}")
        if not path.is_symlink() and _is_64_bit(path)
    )
    return FakeHost(
        name=name,
        root=root,
        host=host,
        kernel=kernel,
        driver_version=version,
        driver_root=root / layout.driver_root,
        nvml=nvml,
    )


def _is_64_bit(library: Path) -> bool:
    with library.open("rb") as file:
        return file.read(5) == b"\x7fELF\x02"


def cached(name: str) -> FakeHost:
    """Return the host called ``name``, kept between test runs; nothing may be written into it."""
    here = Path(__file__).parent
    text = b"".join(path.read_bytes() for path in sorted([*here.glob("*.py"), *here.glob("*.c")]))
    base = driver_packages.cache_directory() / "hosts"
    root = base / f"{name}-{hashlib.sha256(text).hexdigest()[:12]}"
    with suppress(OSError):  # the cache may be read-only, or not there yet
        Path(f"{root}.used").touch()
    if not root.is_dir():
        with driver_packages.locked(base / name):
            if not root.is_dir():
                _remove_unused(base, name)
                building = base / f"{name}.building"
                shutil.rmtree(building, ignore_errors=True)
                build(name, building)
                building.rename(root)
                Path(f"{root}.used").touch()
    return describe(name, root)


def _remove_unused(base: Path, name: str) -> None:
    """Remove the builds of a host that no checkout has used for a day."""
    for root in base.glob(f"{name}-{'?' * 12}"):
        used = Path(f"{root}.used")
        if not used.exists() or time.time() - used.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(root)
            used.unlink(missing_ok=True)
