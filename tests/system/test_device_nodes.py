# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen system create-device-nodes``: the nodes that nvidia-modprobe would create."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.program import CHECKOUT, ENVIRONMENT, PROGRAM, Result, cdi_gen, failure
from tests.system.machine import MIG, OLD, machine, nodes_in, run_nvidia_ctk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

CONTROL = {
    "nvidiactl": (195, 255, 0o666),
    "nvidia-modeset": (195, 254, 0o666),
    "nvidia-uvm": (510, 0, 0o666),
    "nvidia-uvm-tools": (510, 1, 0o666),
}


def create(root: Path, *options: str, env: dict[str, str] | None = None) -> Result:
    words = ("system", "create-device-nodes", "--host-root", str(root))
    return cdi_gen(*words, *options, env=env)


def test_every_node_of_a_host_is_created(tmp_path: Path) -> None:
    """The expected nodes are those that the fake host has; drivers create them in the same way."""
    expected = nodes_in(machine(tmp_path / "whole") / "dev")
    assert len(expected) == 22
    bare = machine(tmp_path / "bare", nodes=False)
    result = create(bare)
    assert result.code == 0, result.err
    assert nodes_in(bare / "dev") == expected
    assert stat.S_IMODE((bare / "dev/nvidia-caps").stat().st_mode) == 0o755
    assert "/dev/nvidia-uvm (510:0): created" in result.err
    assert result.out == ""
    again = create(bare)
    assert (again.code, again.err) == (0, "")


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    bare = machine(tmp_path / "bare", nodes=False)
    before = os.umask(mask)
    try:
        assert create(bare).code == 0
    finally:
        os.umask(before)
    assert nodes_in(bare / "dev")["nvidia-uvm"] == (510, 0, 0o666)
    assert stat.S_IMODE((bare / "dev/nvidia-caps").stat().st_mode) == 0o755


def test_control_devices_are_the_nodes_of_no_gpu(tmp_path: Path) -> None:
    bare = machine(tmp_path / "bare", nodes=False)
    assert create(bare, "--control-devices").code == 0
    assert nodes_in(bare / "dev") == CONTROL


@pytest.mark.network
@pytest.mark.parametrize("kernel", [MIG, OLD], ids=["550", "470"])
def test_control_devices_are_those_of_nvidia_ctk(
    tmp_path: Path, nvidia_program: Callable[[str], Path], kernel: object
) -> None:
    program = nvidia_program("nvidia-ctk")
    theirs, ours = (
        machine(tmp_path / name, kernel, nodes=False)  # type: ignore[arg-type]
        for name in ("theirs", "ours")
    )
    run_nvidia_ctk(theirs, program, "create-device-nodes", "--control-devices")
    assert create(ours, "--control-devices").code == 0
    assert len(nodes_in(ours / "dev")) == 4
    assert nodes_in(ours / "dev") == nodes_in(theirs / "dev")


def test_a_node_of_another_boot_is_replaced_and_any_other_is_kept(tmp_path: Path) -> None:
    root = machine(tmp_path / "host")
    stale, restricted = root / "dev/nvidia-uvm", root / "dev/nvidia0"
    stale.unlink()
    os.mknod(stale, stat.S_IFCHR | 0o600, os.makedev(499, 0))
    restricted.chmod(0o660)
    result = create(root)
    assert result.code == 0
    assert nodes_in(root / "dev")["nvidia-uvm"] == (510, 0, 0o666)
    assert nodes_in(root / "dev")["nvidia0"][2] == 0o660
    assert result.err.count("\n") == 1
    assert "/dev/nvidia-uvm (510:0): replaced, it had the numbers of another boot" in result.err


def test_owner_and_mode_are_those_of_the_modules_parameters(tmp_path: Path) -> None:
    bare = machine(tmp_path / "bare", nodes=False)
    params = bare / "proc/driver/nvidia/params"
    text = params.read_text().replace("FileGID: 0", "FileGID: 44").replace("UID: 0", "UID: 7")
    params.write_text(text.replace("FileMode: 438", "FileMode: 432"))
    assert create(bare).code == 0
    status = (bare / "dev/nvidiactl").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 44, 0o660)
    status = (bare / "dev/nvidia-uvm").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o666)


def test_a_driver_that_leaves_its_nodes_to_the_administrator(tmp_path: Path) -> None:
    """NVreg_ModifyDeviceFiles=0; it says nothing about nvidia-uvm and capabilities."""
    bare = machine(tmp_path / "bare", nodes=False)
    params = bare / "proc/driver/nvidia/params"
    params.write_text(params.read_text().replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0"))
    result = create(bare)
    assert result.code == 0
    assert {numbers[0] for numbers in nodes_in(bare / "dev").values()} == {510, 234}
    assert "[CDG-D101]" in result.err


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("/etc")])
def test_what_is_no_node_stays(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """An engine makes a directory for a volume whose source does not exist."""
    bare = machine(tmp_path / "bare", nodes=False)
    obstacle = bare / "dev/nvidia-uvm"
    make(obstacle)
    before = obstacle.lstat()
    result = create(bare)
    assert result.code == 4
    assert "/dev/nvidia-uvm is not a device node; it is left as it is [CDG-D103]" in result.err
    assert obstacle.lstat().st_ino == before.st_ino
    assert len(nodes_in(bare / "dev")) == 21


def test_a_module_that_is_not_loaded(tmp_path: Path) -> None:
    bare = machine(tmp_path / "bare", replace(MIG, modeset=False), nodes=False)
    devices = bare / "proc/devices"
    devices.write_text(devices.read_text().replace("510 nvidia-uvm\n", ""))
    result = create(bare, "--control-devices")
    assert result.code == 4
    assert {*nodes_in(bare / "dev")} == {"nvidiactl"}
    assert "/dev/nvidia-uvm is not created: the kernel module nvidia_uvm is not" in result.err
    # A server for compute lacks nothing without the module for displays.
    assert "modeset" not in result.err


def test_no_driver_is_nothing_to_do(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", replace(MIG, loaded=False, gpus=()))
    assert "[CDG-H001]" in failure(create(root), 3)


def test_a_container_gets_no_gpu_that_it_was_not_given(tmp_path: Path) -> None:
    bare = machine(tmp_path / "bare", nodes=False)
    (bare / ".dockerenv").touch()
    result = create(bare)
    assert result.code == 0
    assert nodes_in(bare / "dev") == CONTROL
    assert "[CDG-D102]" in result.err


def test_an_excluded_gpu_gets_no_node(tmp_path: Path) -> None:
    gpus = (replace(MIG.gpus[1], excluded=True),)
    bare = machine(tmp_path / "bare", replace(MIG, gpus=gpus), nodes=False)
    assert create(bare).code == 0
    assert "nvidia1" not in nodes_in(bare / "dev")


@pytest.mark.parametrize("env", [{}, {"DRY_RUN": "true"}], ids=["option", "variable"])
def test_dry_run_changes_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    bare = machine(tmp_path / "bare", nodes=False)
    result = create(bare, *([] if env else ["--dry-run"]), env=env)
    assert result.code == 0
    assert "/dev/nvidia-caps/nvidia-cap1 (234:1): would be created" in result.err
    assert not [*(bare / "dev").iterdir()]


@pytest.mark.parametrize(
    ("options", "env"),
    [
        (["--dev-root", "/driver"], {}),
        (["--driver-root", "/driver"], {}),
        (["--root", "/driver"], {}),
        ([], {"NVIDIA_DEV_ROOT": "/driver"}),
        ([], {"DEV_ROOT": "/driver"}),
        ([], {"NVIDIA_DRIVER_ROOT": "/driver"}),
    ],
)
def test_nodes_are_created_in_the_dev_root(
    tmp_path: Path, options: list[str], env: dict[str, str]
) -> None:
    bare = machine(tmp_path / "bare", nodes=False)
    (bare / "driver/dev").mkdir(parents=True)
    result = create(bare, "--control-devices", *options, env=env)
    assert result.code == 0, result.err
    assert nodes_in(bare / "driver/dev") == CONTROL
    assert nodes_in(bare / "dev") == {}
    assert "/driver/dev/nvidiactl (195:255): created" in result.err


def test_a_directory_that_others_can_change_is_refused(tmp_path: Path) -> None:
    bare = machine(tmp_path / "bare", nodes=False)
    (bare / "dev").chmod(0o777)
    assert "[CDG-D002]" in failure(create(bare), 7)
    assert not [*(bare / "dev").iterdir()]


def test_a_link_does_not_lead_out_of_the_root(tmp_path: Path) -> None:
    """An absolute link of a root leads to a directory of that root, as in a chroot."""
    bare = machine(tmp_path / "bare", nodes=False)
    outside = tmp_path / "outside"
    outside.mkdir()
    (bare / "dev/nvidia-caps").symlink_to(outside)
    result = create(bare)
    assert result.code == 1
    assert not [*outside.iterdir()]


def test_the_kernel_refuses(tmp_path: Path) -> None:
    """In a user namespace no process creates device nodes."""
    bare = machine(tmp_path / "bare", nodes=False)
    words = ["system", "create-device-nodes", "--control-devices", "--host-root", str(bare)]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", *PROGRAM, *words],
        cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 1
    assert "Operation not permitted [CDG-D001]" in done.stderr
    assert not [*(bare / "dev").iterdir()]


def _modprobe(root: Path, script: str) -> Path:
    program = root / "sbin/modprobe"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


class TestKernelModules:
    """``--load-kernel-modules`` runs the modprobe of the driver root in a chroot."""

    @pytest.fixture
    def bare(self, tmp_path: Path) -> Path:
        """A machine whose root has a shell."""
        root = machine(tmp_path / "bare", nodes=False)
        busybox = Path("/bin/busybox")
        if not busybox.exists():
            pytest.skip("needs busybox")
        (root / "bin").mkdir()
        (root / "bin/sh").write_bytes(busybox.read_bytes())
        (root / "bin/sh").chmod(0o755)
        return root

    def test_modules_are_loaded_in_order(self, bare: Path) -> None:
        _modprobe(bare, 'echo "$@" >>/log')
        assert create(bare, "--load-kernel-modules", "--control-devices").code == 0
        assert (bare / "log").read_text() == "nvidia\nnvidia-uvm\nnvidia-modeset\n"
        assert nodes_in(bare / "dev") == CONTROL

    def test_without_the_first_module_nothing_is_done(self, bare: Path) -> None:
        _modprobe(bare, 'echo "modprobe: FATAL: Module $1 not found" >&2; exit 1')
        message = failure(create(bare, "--load-kernel-modules"), 1)
        assert "module nvidia: modprobe: FATAL: Module nvidia not found [CDG-D004]" in message
        assert not [*(bare / "dev").iterdir()]

    def test_without_another_module_the_rest_is_done(self, bare: Path) -> None:
        """nvidia-ctk creates no node then."""
        _modprobe(bare, '[ "$1" != nvidia-modeset ]')
        result = create(bare, "--load-kernel-modules", "--control-devices")
        assert result.code == 4
        assert "cannot load the kernel module nvidia-modeset" in result.err
        assert nodes_in(bare / "dev") == CONTROL

    def test_a_program_that_others_can_change_is_not_run(self, bare: Path) -> None:
        _modprobe(bare, "touch /ran").chmod(0o777)
        assert "[CDG-D002]" in failure(create(bare, "--load-kernel-modules"), 7)
        assert not (bare / "ran").exists()

    def test_dry_run_prints_the_commands(self, bare: Path) -> None:
        result = create(bare, "--load-kernel-modules", "--dry-run")
        assert f"would run: /usr/sbin/chroot {bare} /sbin/modprobe nvidia-uvm" in result.err
