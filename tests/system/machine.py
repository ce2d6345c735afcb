# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of a fake host, without the driver's files: nodes need no more."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.fakehost.gpus import several, split
from tests.fakehost.kernel import Kernel, write

MIG = Kernel(driver_version="550.163.01", gpus=(split(0), *several(2)[1:]))
"""Two GPUs: one divided into MIG devices, one whole."""
OLD = replace(MIG, driver_version="470.256.02", gpus=several(1))
"""A driver whose main major has its old name."""


def machine(root: Path, kernel: Kernel = MIG, *, nodes: bool = True) -> Path:
    """Write a machine into a directory; without nodes, as it is right after the driver is loaded."""
    root.mkdir(exist_ok=True)
    write(kernel, root)
    if not nodes:
        shutil.rmtree(root / "dev")
        (root / "dev").mkdir()
    return root


def nodes_in(dev: Path) -> dict[str, tuple[int, int, int]]:
    """Major, minor and mode of each of the driver's nodes below a directory."""
    return {
        str(path.relative_to(dev)): (
            os.major(status.st_rdev),
            os.minor(status.st_rdev),
            stat.S_IMODE(status.st_mode),
        )
        for path, status in _files(dev)
        if stat.S_ISCHR(status.st_mode) and path.name.startswith("nvidia")
    }


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in sorted(directory.rglob("*")):
        yield path, path.lstat()


_ENTER = """
root=$1 program=$2; shift 2
mount --make-rprivate /
for directory in lib lib64 usr; do
    mkdir -p "$root/$directory"; mount --rbind "/$directory" "$root/$directory"
done
mkdir -p "$root/tmp"; cp "$program" "$root/tmp/nvidia-ctk"
exec chroot "$root" /tmp/nvidia-ctk system "$@"
"""


def run_nvidia_ctk(root: Path, program: Path, *words: str) -> None:
    """Run ``nvidia-ctk system`` on a machine; it reads /proc and /sys of its own root."""
    for device in (root / "sys/bus/pci/devices").iterdir():
        (device / "resource").write_text(f"{' '.join([f'0x{0:016x}'] * 3)}\n" * 13)
    subprocess.run(
        ["unshare", "-m", "sh", "-ec", _ENTER, "sh", str(root), str(program), *words],
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip
