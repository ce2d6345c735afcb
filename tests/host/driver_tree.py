# SPDX-License-Identifier: Apache-2.0
"""Small hosts: the files of a real driver, laid out as a distribution does, and nothing else.

Their files are hard links to those of a driver root of ``tests.fakehost``, so a host takes
milliseconds; the kernel's side is written as that of any fake host.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdi_gen.generate import generate
from cdi_gen.host import Where, gather
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath, base_name
from tests.fakehost import driver_packages, layouts
from tests.fakehost.gpus import Gpu, headless, several
from tests.fakehost.kernel import Kernel, write
from tests.host import elf_oracle

HOOK = HookProgram(path=HostPath("/usr/libexec/cdi-gen/cdi-gen-hook"))
ICD = "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"
PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-modprobe")
SHARED = (
    "glvnd/egl_vendor.d/10_nvidia.json",
    "vulkan/icd.d/nvidia_icd.json",
    "egl/egl_external_platform.d/10_nvidia_wayland.json",
    "egl/egl_external_platform.d/15_nvidia_gbm.json",
    "nvidia/nvoptix.bin",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of one driver."""

    version: str
    libraries: dict[str, Path]
    """By name; those of 64 bits alone."""
    programs: dict[str, Path]
    shared: dict[str, Path]
    """By the name below /usr/share."""
    firmware: dict[str, Path]


@lru_cache
def tree(driver_set: str) -> Tree:
    """The files of a driver set.

    Raises:
        DriverRootUnavailableError: it cannot be had on this machine.
    """
    root = driver_packages.driver_root(driver_set)
    multiarch = root / "usr/lib/x86_64-linux-gnu"
    private = multiarch / driver_packages.DRIVER_SETS[driver_set].directory
    version = next(iter(private.glob("libcuda.so.*.*"))).name.removeprefix("libcuda.so.")
    libraries = {
        path.name: path
        for directory in (multiarch, private)
        for path in sorted(directory.iterdir())
        if path.is_file() and not path.is_symlink()
        if layouts.DRIVER_LIBRARY.fullmatch(path.name)
    }
    programs = {name: path for name in PROGRAMS if (path := _found(root, f"usr/bin/{name}"))}
    shared = {name: path for name in SHARED if (path := _found(root, f"usr/share/{name}"))}
    firmware = sorted((root / f"usr/lib/firmware/nvidia/{version}").glob("*"))
    return Tree(
        version=version,
        libraries=libraries,
        programs=programs,
        shared=shared,
        firmware={path.name: path for path in firmware},
    )


def _found(root: Path, name: str) -> Path | None:
    """The file that a name of the root leads to, absolute links taken as they are meant."""
    path = root / name
    for _ in range(8):
        if not path.is_symlink():
            return path if path.is_file() else None
        target = path.readlink()
        path = root / str(target).lstrip("/") if target.is_absolute() else path.parent / target
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallHost:
    """A host whose root is ``root``."""

    root: Path
    tree: Tree
    gpus: tuple[Gpu, ...] = field(default_factory=lambda: (headless(several(1)[0]),))
    firmware_path: str = ""
    version: str = ""
    """Of the loaded module, where it is not the tree's."""
    architecture: str = "x86_64"

    def boot(self) -> None:
        """Write the kernel's side."""
        version = self.version or self.tree.version
        kernel = Kernel(
            driver_version=version,
            gpus=self.gpus,
            modeset=False,
            firmware_path=self.firmware_path,
        )
        write(kernel, self.root)
        if self.architecture != "x86_64":
            place = self.root / "proc/driver/nvidia/version"
            place.write_text(place.read_text().replace("x86_64", self.architecture))
        (self.root / "usr/lib").mkdir(parents=True, exist_ok=True)

    def libraries(self, directory: str, *names: str, links: bool = True) -> None:
        """Put the driver's libraries, or those whose names begin so, into a directory.

        With each come the links that ldconfig makes.
        """
        for name, source in self.tree.libraries.items():
            if names and not name.startswith(names):
                continue
            place = self.file(f"{directory}/{name}", source)
            found = elf_oracle.read(str(source))
            if links and found and found.soname and found.soname != name:
                link(place.with_name(found.soname), name)

    def programs(self, directory: str) -> None:
        """Put the driver's programs into a directory."""
        for name, source in self.tree.programs.items():
            self.file(f"{directory}/{name}", source)

    def shared(self, directory: str) -> None:
        """Put what packages have below /usr/share there."""
        for name, source in self.tree.shared.items():
            self.file(f"{directory}/{name}", source)

    def firmware(self, directory: str) -> None:
        """Put the firmware below there, in nvidia/VERSION."""
        for name, source in self.tree.firmware.items():
            self.file(f"{directory}/nvidia/{self.tree.version}/{name}", source)

    def whole(self, prefix: str, libraries: str = "lib64") -> None:
        """Put all of the driver below one prefix."""
        self.libraries(f"{prefix}/{libraries}")
        self.programs(f"{prefix}/bin")
        self.shared(f"{prefix}/share")
        self.firmware(f"{prefix}/firmware")

    def move(self, old: str, new: str) -> None:
        """Rename a directory of the host."""
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / old).rename(self.root / new)

    def file(self, name: str, source: Path) -> Path:
        """Give a file of the driver a place, which may be taken by an older one."""
        place = self.root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        os.link(source, place)
        return place

    def text(self, name: str, text: str) -> None:
        """Write a file of the host."""
        place = self.root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="ascii")

    def look(self, **where: str | tuple[str, ...]) -> Inventory:
        """What cdi-gen sees."""
        return look(self.root, **where)


def link(place: Path, text: str) -> None:
    """Make a symbolic link, in the place of another if there is one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(text)


def look(root: Path, **where: Any) -> Inventory:
    """What cdi-gen sees of a host in a directory."""
    return gather(Where(host_root=str(root), **where))


def require_whole(host: SmallHost, inventory: Inventory, *, firmware: bool = True) -> None:
    """The container gets all of the driver, where its programs and loaders look for it."""
    assert {base_name(each.path) for each in inventory.libraries} == set(host.tree.libraries) - {
        name for name in host.tree.libraries if name.startswith("libglxserver")
    }
    assert not [missing for missing in inventory.missing if missing.code == "CDG-H203"]
    mounts = {
        each.container_path: each.host_path for each in generate(inventory).container_edits.mounts
    }
    assert {"/usr/bin/nvidia-smi", "/bin/nvidia-smi"} & mounts.keys()
    assert base_name(mounts["/etc/vulkan/icd.d/nvidia_icd.json"]) == "nvidia_icd.json"
    assert base_name(mounts[ICD]) == "10_nvidia.json"
    assert base_name(mounts["/usr/share/nvidia/nvoptix.bin"]) == "nvoptix.bin"
    if firmware:
        place = f"/lib/firmware/nvidia/{host.tree.version}"
        assert {f"{place}/{each}" for each in host.tree.firmware} <= mounts.keys()
    for path in mounts.values():
        assert (host.root / path.lstrip("/")).is_file()
