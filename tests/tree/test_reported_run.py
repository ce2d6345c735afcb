# SPDX-License-Identifier: Apache-2.0
"""Driver trees on hosts of public reports: what is mounted at /run, and where drivers are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cdi_gen import tree
from cdi_gen.errors import CdiGenError
from tests.tree.small_driver import mounts_below, replace, tree_of


def _mount_run(root: str, options: str) -> None:
    run = Path(root).parents[1]
    run.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(run)], check=True)


def test_run_is_mounted_noexec(driver: Path, root: str) -> None:
    """Hardened hosts mount /run with noexec; nvidia-smi of the tree must be a program nevertheless."""
    _mount_run(root, "mode=755,nosuid,nodev,noexec")
    replace(driver / "nvidia-smi", "#!/bin/sh\necho 550.54\n")
    (driver / "nvidia-smi").chmod(0o755)
    made = tree.make(tree_of(driver), root).tree
    ran = subprocess.run([f"{root}/current/bin/nvidia-smi"], capture_output=True, check=True)
    assert ran.stdout == b"550.54\n"
    assert all("noexec" not in options for options in mounts_below(made.path).values())


def test_run_is_read_only(driver: Path, root: str) -> None:
    """NVIDIA/nvidia-docker#368: the driver is on a read-only partition, and so is all else."""
    _mount_run(root, "mode=755")
    run = Path(root).parents[1]
    subprocess.run(["mount", "-o", "remount,ro", str(run)], check=True)
    with pytest.raises(CdiGenError, match="Read-only file system"):
        tree.make(tree_of(driver), root)
    assert mounts_below(root) == {}


def test_the_driver_is_on_a_read_only_file_system(driver: Path, root: str) -> None:
    """ostree and bottlerocket: /usr cannot be written to."""
    subprocess.run(["mount", "--bind", str(driver), str(driver)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(driver)], check=True)
    assert tree.make(tree_of(driver), root).changed
    assert Path(f"{root}/current/lib64/libcuda.so.1").is_file()


def test_the_driver_container_unmounts_its_root(driver: Path, root: str) -> None:
    """NVIDIA/gpu-operator: the driver's container is restarted, and /run/nvidia/driver vanishes.

    Containers that run keep what they have; the tree can be removed.
    """
    operator = driver.parent / "run-nvidia-driver"
    operator.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(operator)], check=True)
    for path in driver.iterdir():
        (operator / path.name).write_bytes(path.read_bytes())
    made = tree.make(tree_of(operator), root).tree
    # Not even lazily: the tree does not keep the driver's mount busy.
    subprocess.run(["umount", str(operator)], check=True)
    assert Path(f"{root}/current/lib64/libcuda.so.1").read_text() == "libcuda.so.550.54 of 550.54\n"
    assert len(made.changed_files()) == 4
    assert not tree.is_current(tree_of(operator), root)
    assert tree.remove(root) == (made.name,)
    assert mounts_below(root) == {}
