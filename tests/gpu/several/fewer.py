# SPDX-License-Identifier: Apache-2.0
"""The machine with fewer of its GPUs: its own ``/`` under another, where nodes are missing.

It looks like a container that was given some GPUs: cdi-gen and NVML count those with a node. /dev
is read-only there, for NVML of root would make the nodes that are missing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from tests.gpu.programs.machine import mount

CONTAINER_MARK = "run/.containerenv"


def root(folder: Path, hidden: Collection[str]) -> Path:
    """Make it in a new folder; ``hidden`` are the names in /dev that it does not have.

    The caller has a mount namespace of its own, with private propagation.
    """
    top, dev = folder / "root", folder / "dev"
    top.mkdir(parents=True)
    dev.mkdir()
    mount("--rbind", "/", top)
    # Or a second one would have the first in it, and a third one both.
    mount("--make-runbindable", top)
    mount("-t", "tmpfs", "-o", "mode=755", "dev", dev)
    for entry in os.scandir("/dev"):
        if entry.name not in hidden:
            _put(entry, dev / entry.name)
    mount("--rbind", dev, top / "dev")
    mount("-o", "remount,bind,ro", top / "dev")
    mount("-t", "tmpfs", "-o", "mode=755", "run", top / "run")
    (top / CONTAINER_MARK).touch()
    return top


def remove(folder: Path) -> None:
    """Take it away again."""
    for name in ("root", "dev"):
        subprocess.run(["umount", "--recursive", "--lazy", str(folder / name)], check=False)
        (folder / name).rmdir()
    folder.rmdir()


def _put(entry: os.DirEntry[str], target: Path) -> None:
    if entry.is_symlink():
        target.symlink_to(os.readlink(entry.path))
    elif entry.is_dir():
        target.mkdir()
        mount("--rbind", entry.path, target)
    elif not entry.is_file():
        status = entry.stat()
        os.mknod(target, status.st_mode, status.st_rdev)
        target.chmod(status.st_mode & 0o7777)
