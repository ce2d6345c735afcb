# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen system create-dev-char-symlinks``: the links by which systemd finds device nodes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.program import Result, cdi_gen, failure
from tests.fakehost.kernel import Kernel
from tests.system.machine import MIG, OLD, machine, nodes_in, run_nvidia_ctk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")


def link(root: Path, *options: str, env: dict[str, str] | None = None) -> Result:
    words = ("system", "create-dev-char-symlinks", "--host-root", str(root))
    return cdi_gen(*words, *options, env=env)


def links_in(directory: Path) -> dict[str, str]:
    return {path.name: os.readlink(path) for path in sorted(directory.iterdir())}


def test_each_node_of_the_driver_is_linked_by_its_numbers(tmp_path: Path) -> None:
    root = machine(tmp_path / "host")
    result = link(root)
    assert result.code == 0, result.err
    assert links_in(root / "dev/char") == {
        f"{major}:{minor}": f"/dev/{name}"
        for name, (major, minor, _) in nodes_in(root / "dev").items()
    }
    assert "/dev/char/510:0 -> /dev/nvidia-uvm: created" in result.err
    again = link(root)
    assert (again.code, again.err, again.out) == (0, "", "")


@pytest.mark.network
@pytest.mark.parametrize("options", [(), ("--create-all",)], ids=["existing", "all"])
@pytest.mark.parametrize("kernel", [MIG, OLD], ids=["550", "470"])
def test_the_links_are_those_of_nvidia_ctk(
    tmp_path: Path,
    nvidia_program: Callable[[str], Path],
    kernel: Kernel,
    options: tuple[str, ...],
) -> None:
    program = nvidia_program("nvidia-ctk")
    theirs, ours = (machine(tmp_path / name, kernel) for name in ("theirs", "ours"))
    run_nvidia_ctk(theirs, program, "create-dev-char-symlinks", *options)
    assert link(ours, *options).code == 0
    expected = links_in(theirs / "dev/char")
    assert len(expected) >= (250 if options and kernel is MIG else 7)
    assert links_in(ours / "dev/char") == expected


def test_channels_of_imex_are_linked_and_nodes_of_udev_are_not(tmp_path: Path) -> None:
    """nvidia-ctk links no channel. A container of an NVLink domain needs its channel too."""
    root = machine(tmp_path / "host", replace(MIG, imex_channels=1, nvidia_fs=1, nvswitches=1))
    assert link(root).code == 0
    links = links_in(root / "dev/char")
    assert links["236:0"] == "/dev/nvidia-caps-imex-channels/channel0"
    assert not {"509:0", "235:0", "235:255"} & {*links}


def test_links_of_udev_are_kept(tmp_path: Path) -> None:
    """udev writes relative links."""
    root = machine(tmp_path / "host")
    (root / "dev/char").mkdir()
    (root / "dev/char/510:0").symlink_to("../nvidia-uvm")
    assert link(root).code == 0
    assert links_in(root / "dev/char")["510:0"] == "../nvidia-uvm"


def test_links_to_nodes_that_have_other_numbers_now(tmp_path: Path) -> None:
    """The module nvidia-uvm was loaded again and got another number."""
    root = machine(tmp_path / "host")
    (root / "dev/char").mkdir()
    (root / "dev/char/499:0").symlink_to("/dev/nvidia-uvm")
    (root / "dev/char/510:0").symlink_to("/dev/nvidia-caps/nvidia-cap1")
    (root / "dev/char/1:3").symlink_to("../null")
    result = link(root)
    assert result.code == 0
    links = links_in(root / "dev/char")
    assert "499:0" not in links
    assert links["510:0"] == "/dev/nvidia-uvm"
    assert links["1:3"] == "../null"
    assert "/dev/char/499:0 -> /dev/nvidia-uvm: removed" in result.err


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_belongs_to_another_driver_stays(tmp_path: Path, kind: str) -> None:
    root = machine(tmp_path / "host")
    (root / "dev/char").mkdir()
    obstacle = root / "dev/char/510:0"
    if kind == "file":
        obstacle.touch()
    else:
        obstacle.symlink_to("../fuse")
    result = link(root)
    assert result.code == 4
    assert "/dev/char/510:0 does not lead to /dev/nvidia-uvm: it is " in result.err
    assert "[CDG-D104]" in result.err
    assert obstacle.is_symlink() is (kind == "link")
    assert "195:0" in links_in(root / "dev/char") if kind == "link" else True


def test_dry_run_changes_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path / "host")
    result = link(root, "--dry-run")
    assert result.code == 0
    assert "/dev/char/195:255 -> /dev/nvidiactl: would be created" in result.err
    assert not (root / "dev/char").exists()


def test_a_host_without_a_node_has_nothing_to_link(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", nodes=False)
    result = link(root)
    assert result.code == 0
    assert "/dev has no node of an NVIDIA driver" in result.err
    assert not (root / "dev/char").exists()


def test_all_possible_links_need_all_modules(tmp_path: Path) -> None:
    root = machine(tmp_path / "host")
    devices = root / "proc/devices"
    devices.write_text(devices.read_text().replace("510 nvidia-uvm\n", ""))
    assert "/proc/devices has no driver nvidia-uvm" in failure(link(root, "--create-all"), 3)


def test_device_nodes_are_created_first_where_asked(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", nodes=False)
    assert link(root, "--create-all", "--create-device-nodes").code == 0
    assert {*nodes_in(root / "dev")} == {
        *("nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools"),
    }
    assert stat.S_ISCHR((root / "dev/nvidiactl").stat().st_mode)
    other = machine(tmp_path / "other", nodes=False)
    result = link(other, "--create-device-nodes")
    assert "--create-device-nodes has no effect without --create-all [CDG-U102]" in result.err
    assert nodes_in(other / "dev") == {}


@pytest.mark.parametrize(
    ("options", "env"),
    [(["--dev-char-path", "/run/char"], {}), ([], {"DEV_CHAR_PATH": "/run/char"})],
)
def test_the_directory_of_the_links(
    tmp_path: Path, options: list[str], env: dict[str, str]
) -> None:
    root = machine(tmp_path / "host")
    assert link(root, *options, env=env).code == 0
    assert links_in(root / "run/char")["195:0"] == "/dev/nvidia0"


def test_nodes_of_a_dev_root_are_linked_by_their_path_on_the_host(tmp_path: Path) -> None:
    kernel = replace(MIG, device_roots=("driver",))
    root = machine(tmp_path / "host", kernel)
    assert link(root, "--driver-root", "/driver").code == 0
    assert links_in(root / "dev/char")["195:0"] == "/driver/dev/nvidia0"


def test_a_directory_that_others_can_change_is_refused(tmp_path: Path) -> None:
    root = machine(tmp_path / "host")
    (root / "dev/char").mkdir(mode=0o777)
    (root / "dev/char").chmod(0o777)
    assert "[CDG-D002]" in failure(link(root), 7)
    assert links_in(root / "dev/char") == {}
