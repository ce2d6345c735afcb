# SPDX-License-Identifier: Apache-2.0
"""How images are built to do harm: links out of the root, and files that are something else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT_FOLDERS = (
    "etc", "etc/ld.so.conf.d", "usr", "usr/lib", "lib", "lib64", "run", "tmp", "var", "dev", "proc",
    "sys", "opt", "opt/odd", "etc/nvidia", "usr/local/cuda", "usr/local/cuda/compat",
)  # fmt: skip
"""Every folder that a step looks into or writes to, and those that runtimes care for."""

ZERO, NULL, WATCHDOG, KMSG = (1, 5), (1, 3), (10, 130), (1, 11)


def replace(place: Path, text: str | Path) -> None:
    """Make `place` a link that says `text`, whatever is there."""
    clear(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(text)


def clear(place: Path) -> None:
    """Take away what is at `place`."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def ways_to(folder: Path) -> dict[str, str]:
    """Texts of links that lead to a folder of the host, if they are followed on the host."""
    return {
        "absolute": str(folder),
        "relative": "../" * 30 + str(folder)[1:],
        "magic": f"/proc/self/root{folder}",
        "process 1": f"/proc/1/root{folder}",
        "descriptor": "/proc/self/fd/3",
        "dev fd": "/dev/fd/3",
        "cwd": "/proc/self/cwd",
    }


def plant(place: Path, kind: str, *, node: tuple[int, int] = ZERO) -> None:
    """Put something that is no file where one is expected.

    Args:
        place: where.
        kind: pipe, link to a pipe, device, link to a device, block device, socket, folder, sparse.
        node: of a device. No test that a naive hook is run in has a dangerous one.
    """
    clear(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "socket":
            os.mknod(place, 0o140666)
        case "device":
            os.mknod(place, 0o020666, os.makedev(*node))
        case "block device":
            os.mknod(place, 0o060666, os.makedev(7, 0))
        case "folder":
            place.mkdir()
        case "sparse":
            place.touch()
            os.truncate(place, 6 << 30)
        case "link to a pipe" | "link to a device":
            real = place.with_name(f"real-{place.name}")
            plant(real, kind.removeprefix("link to a "), node=node)
            place.symlink_to(real.name)
        case _:
            raise ValueError(kind)
