# SPDX-License-Identifier: Apache-2.0
"""A second root file system of this machine, with fewer of its GPUs.

It looks like a container that has some of the GPUs: cdi-gen and NVML count the GPUs that have a node.
/dev is read-only in it, because NVML as root would create the missing nodes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from tests.gpu.programs.machine import mount

CONTAINER_MARK = "run/.containerenv"


def mount_root(folder: Path, hidden: Collection[str]) -> Path:
    """Mount the file system below a folder, and return its root.

    Args:
        folder: a new directory. The caller has a mount namespace of its own with private propagation.
        hidden: names in /dev that the file system does not have.
    """
    root, dev = folder / "root", folder / "dev"
    root.mkdir(parents=True)
    dev.mkdir()
    mount("--rbind", "/", root)
    mount("-t", "tmpfs", "-o", "mode=755", "dev", dev)
    for entry in os.scandir("/dev"):
        if entry.name not in hidden:
            _copy(entry, dev / entry.name)
    mount("--rbind", dev, root / "dev")
    mount("-o", "remount,bind,ro", root / "dev")
    mount("-t", "tmpfs", "-o", "mode=755", "run", root / "run")
    (root / CONTAINER_MARK).touch()
    for path in (root, dev):
        # Otherwise the next file system would contain this one.
        mount("--make-runbindable", path)
    return root


def unmount_root(folder: Path) -> None:
    """Unmount the file system. The folder stays, with two empty directories."""
    for name in ("root", "dev"):
        subprocess.run(["umount", "--recursive", "--lazy", str(folder / name)], check=False)


def _copy(entry: os.DirEntry[str], target: Path) -> None:
    if entry.is_symlink():
        target.symlink_to(os.readlink(entry.path))
    elif entry.is_dir():
        target.mkdir()
        mount("--rbind", entry.path, target)
    elif not entry.is_file():
        status = entry.stat()
        os.mknod(target, status.st_mode, status.st_rdev)
        target.chmod(status.st_mode & 0o7777)
