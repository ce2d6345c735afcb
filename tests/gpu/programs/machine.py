# SPDX-License-Identifier: Apache-2.0
"""A root file system without a driver: a directory, or this machine's own less its driver.

Each container has an overlay of its own, in memory: nothing is written to what lies beneath.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

MAKE_BELIEVE = ("/proc", "/sys", "/dev", "/run", "/tmp")
"""Below these a container has file systems of its own."""

IN_NAMESPACE = "CDI_GEN_IN_OWN_MOUNT_NAMESPACE"

NO_FILES = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "devpts", "mqueue", "bpf"})


class Root(NamedTuple):
    """What overlays are made of, and what else of the machine belongs to it."""

    layers: tuple[Path, ...]
    """The topmost first."""
    volumes: tuple[str, ...]
    """Other file systems of the machine, to be seen at the same place."""

    def overlay(self, folder: Path) -> Path:
        """A writable copy in a new folder."""
        merged, upper, work = (folder / name for name in ("rootfs", "upper", "work"))
        for each in (merged, upper, work):
            each.mkdir(parents=True)
        lower = ":".join(map(str, self.layers))
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mount("-t", "overlay", "overlay", "-o", options, merged)
        return merged


@contextmanager
def memory_in_own_mount_namespace(module: str) -> Iterator[Path]:
    """Run a program of this package, as root, in a mount namespace of its own.

    The process starts itself again in the namespace. The mounts disappear with that process.

    Yields:
        An empty directory in memory.
    """
    if os.geteuid():
        sys.exit(f"{module}: needs root, for overlays and containers")
    if IN_NAMESPACE not in os.environ:
        words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m"]
        os.environ[IN_NAMESPACE] = "1"
        os.execvp("unshare", [*words, module, *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="cdi-gen-gpu-") as name:
        mount("-t", "tmpfs", "-o", "mode=755,size=80%", "tmpfs", name)
        try:
            yield Path(name)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"{module}: {error}")
        finally:
            subprocess.run(["umount", "--lazy", name], check=False)


def mount(*words: str | Path) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *map(str, words)], check=True)


def of_directory(path: Path) -> Root:
    """An image's root file system, unpacked or mounted."""
    return Root((path.resolve(strict=True),), ())


def of_this_machine(inventory: dict[str, Any], folder: Path) -> Root:
    """The machine's own ``/`` without the driver's files, and with a new ld.so.cache."""
    files = driver_files(inventory)
    others = {each for each in mount_points() if not each.startswith(MAKE_BELIEVE)}
    drivers = {_mount_of(file, others) for file in files}
    merged = Root((Path("/"),), ()).overlay(folder)
    for file in files:
        # In a container each may be a mount of its own, over an empty file of the root.
        if _mount_of(file, others) in ("/", file) and os.path.lexists(f"{merged}{file}"):
            os.unlink(f"{merged}{file}")
    subprocess.run(["ldconfig", "-r", str(merged)], check=True)
    subprocess.run(["umount", str(merged)], check=True)
    return Root((folder / "upper", Path("/")), tuple(sorted(others - drivers - {"/"})))


def _mount_of(path: str, places: set[str]) -> str:
    """The innermost of the mount points on the way to a file; ``/`` where there is none."""
    while path not in places and path != "/":
        path = os.path.dirname(path)
    return path


def mount_points() -> list[str]:
    """Where the machine has mounted something that holds files."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        for line in table:
            place = line.split()[4]
            kind = line.partition(" - ")[2].split()[0]
            if kind not in NO_FILES and "\\" not in place:
                found.append(place)
    return found


def driver_files(inventory: dict[str, Any]) -> list[str]:
    """Every name in this machine that an inventory knows a file of the driver by."""
    found: set[str] = set()
    for library in inventory["libraries"]:
        home = os.path.dirname(library["path"])
        names = (library["soname"], *library.get("links", ()))
        found |= {library["path"], *(f"{home}/{name}" for name in names)}
        for alias in library.get("aliases", ()):
            found |= {alias, *(f"{os.path.dirname(alias)}/{name}" for name in names)}
    for file in inventory["files"]:
        if not file["path"].startswith(MAKE_BELIEVE):
            found |= {file["path"], file.get("seenAt", file["path"])}
    return sorted(found)
