# SPDX-License-Identifier: Apache-2.0
"""Refreshes with the driver tree: one spec for every driver, and the tree that it mounts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cdi_base import syscalls
from cdi_gen import tree
from cdi_gen.errors import CdiGenError
from cdi_gen.generate.driver_tree import CURRENT, ROOT
from cdi_gen.refresh import record, update
from cdi_gen.refresh.record import Record
from cdi_gen.refresh.settings import Layout
from cdi_gen.tree import propagation
from tests.refresh.injection import Counter
from tests.refresh.machine import DriverUpdate, KilledError, Machine, Refreshed, in_fork

Value = TypeVar("Value")

TREE: dict[str, Any] = {"form": "tree", "hooks": "none"}
NEW_VERSION = "550.163.01"


class MountedMachine(Machine):
    """A machine whose kernel side is mounted over this one's, with a /run of its own."""

    @property
    def layout(self) -> Layout:
        """The driver's files are below another root."""
        return Layout(driver_root=str(self.root))

    def mount_kernel(self) -> None:
        """Show the kernel side of the fake host, as it is now."""
        for name in ("driver", "devices"):
            source = self.root / "proc" / name
            subprocess.run(["umount", f"/proc/{name}"], check=False, capture_output=True)
            if source.exists():
                subprocess.run(["mount", "--bind", str(source), f"/proc/{name}"], check=True)


@pytest.fixture
def mounted(
    driver_update: tuple[Machine, DriverUpdate], own_mounts: None
) -> tuple[MountedMachine, DriverUpdate]:
    machine, update = driver_update
    mounted = MountedMachine(machine.folder, machine.fake)
    mounted.mount_kernel()
    return mounted, update


Mounted = tuple[MountedMachine, DriverUpdate]


def _trees() -> list[str]:
    return sorted(name for name in os.listdir(ROOT) if name[0].isdigit())


def _libcuda() -> bytes:
    return Path(f"{CURRENT}/lib64/libcuda.so.1").read_bytes()


def test_the_same_spec_before_during_and_after_an_update(mounted: Mounted) -> None:
    machine, new_driver = mounted
    old_version = machine.fake.driver_version
    refreshed = machine.refresh(**TREE)
    assert refreshed.code == 0, refreshed
    (old_tree,) = _trees()
    assert old_tree.startswith(f"{old_version}-")
    before, old_library = machine.contents(), _libcuda()
    assert old_version.encode() not in before["nvidia.json"]
    assert CURRENT.encode() in before["nvidia.json"]
    assert machine.check() == []
    assert machine.refresh(**TREE) == (0, (), (), (), "")

    new_driver.install_libraries()
    new_driver.remove_old_libraries()
    new_driver.install_files()
    assert machine.refresh(**TREE).code == 5
    # Containers that start now get the driver of the loaded module, whose files are deleted.
    assert machine.contents() == before
    assert _trees() == [old_tree]
    assert _libcuda() == old_library

    new_driver.load_module()
    machine.mount_kernel()
    assert (
        f"{CURRENT}: the tree that containers get is not that of this driver [CDG-V113]"
        in machine.check()
    )
    refreshed = machine.refresh(**TREE)
    assert refreshed.code == 0, refreshed
    # Debian's package of 535 lacks the module of the X server; all else is the same text.
    old_lines, new_lines = (
        {line.strip(" ,") for line in text.decode().splitlines()}
        for text in (before["nvidia.json"], machine.gpus.read_bytes())
    )
    assert {line for line in old_lines ^ new_lines if "libglxserver_nvidia" not in line} == set()
    (new_tree,) = _trees()
    assert new_tree.startswith(f"{NEW_VERSION}-")
    assert os.readlink(CURRENT) == new_tree
    assert _libcuda() != old_library
    assert machine.check() == []


def test_specs_of_files_fail_during_an_update(mounted: Mounted) -> None:
    """The control: what the specs of NVIDIA's programs do too."""
    machine, new_driver = mounted
    machine.refresh()
    new_driver.install_libraries()
    new_driver.remove_old_libraries()
    assert machine.refresh().code == 5
    lines = machine.check()
    assert any("libcuda.so.535" in line and "does not exist" in line for line in lines)


def test_a_tree_that_is_not_mounted_is_made_again(mounted: Mounted) -> None:
    machine, _ = mounted
    machine.refresh(**TREE)
    (name,) = _trees()
    subprocess.run(["umount", "-l", f"{ROOT}/{name}"], check=True)
    assert any("CDG-V113" in line for line in machine.check())
    assert machine.refresh(**TREE) == (0, (), (), (), "")
    assert _trees() == [name]
    assert _libcuda()
    assert machine.check() == []


@pytest.mark.parametrize("end", ["files", "unloaded"])
def test_without_specs_of_the_tree_there_is_no_tree(mounted: Mounted, end: str) -> None:
    machine, new_driver = mounted
    machine.refresh(**TREE)
    assert _trees()
    if end == "files":
        assert machine.refresh().written == ("nvidia.json",)
    else:
        new_driver.unload_module()
        machine.mount_kernel()
        assert machine.refresh(**TREE).removed == ("nvidia.json", "nvidia-cap.json")
    assert _trees() == []
    assert not os.path.lexists(CURRENT)


def _without_grace(act: Callable[[], Value]) -> Value:
    """Call a function in a fork in which trees are replaced, and old ones removed, at once."""

    def without_grace() -> Value:
        assert tree.clean.__kwdefaults__ is not None
        assert tree.make.__kwdefaults__ is not None
        tree.clean.__kwdefaults__["grace"] = 0
        tree.make.__kwdefaults__["settle"] = 0
        return act()

    return in_fork(without_grace)


def test_killed_before_each_call_while_the_tree_is_replaced(mounted: Mounted) -> None:
    """The specs lead to a whole tree at any time, and the next refresh leaves one tree."""
    machine, _ = mounted
    library = machine.own_copy("usr/lib/x86_64-linux-gnu/libcuda.so.*.*")
    machine.refresh(**TREE)
    specs = machine.contents()
    content = library.read_bytes()

    def counted(at: int | None, fault: str = "") -> list[str]:
        counter = Counter(at, fault)
        update.refresh(machine.request(**TREE), state_directory=str(machine.state))
        return counter.names

    os.utime(library, (1, 1))
    names = _without_grace(lambda: counted(None))
    assert len(names) > 10, names
    for call in range(len(names)):
        os.utime(library, (call + 2, call + 2))
        with pytest.raises(KilledError):
            _without_grace(lambda call=call: counted(call, "KILL"))  # type: ignore[misc]
        assert _libcuda() == content, names[call]
        assert {name: text for name, text in machine.contents().items() if name[0] != "."} == specs
        assert _without_grace(lambda: machine.refresh_here(**TREE)).code == 0
        assert _trees() == [os.readlink(CURRENT)], names[call]
        assert sorted(os.listdir(ROOT)) == sorted([*_trees(), "current", "lock"]), names[call]
        assert machine.contents() == specs
    assert machine.check() == []


@pytest.mark.parametrize("fault", ["killed", "full"])
def test_a_tree_without_its_specs_is_removed_by_the_next_refresh(
    mounted: Mounted, fault: str
) -> None:
    """/run is full after the tree was made, or the process is killed: no record named the tree."""
    machine, _ = mounted
    make, write = tree.make, record.write
    written: list[Record] = []

    def make_and_die(*arguments: Any) -> None:
        make(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    def write_once(new: Record, directory: str) -> None:
        if written:
            raise CdiGenError("No space left on device", code="CDG-F004")
        written.append(new)
        write(new, directory)

    def interrupted() -> Refreshed:
        if fault == "killed":
            tree.make = make_and_die  # type: ignore[assignment]
        else:
            record.write = write_once  # type: ignore[assignment]
        return machine.refresh_here(**TREE)

    if fault == "killed":
        with pytest.raises(KilledError):
            in_fork(interrupted)
    else:
        assert in_fork(interrupted).code == 1
    assert _trees()
    assert machine.contents() == {}
    assert machine.refresh().code == 0
    assert _trees() == []
    assert not os.path.lexists(CURRENT)


def test_a_host_in_a_directory_has_no_tree(machine: Callable[[str], Machine]) -> None:
    refreshed = machine("550-flat").refresh(**TREE)
    assert refreshed.code == 2
    assert "the form tree cannot be used with --host-root" in refreshed.message


ISOLATED: dict[str, list[str]] = {
    "slave": ["--make-rslave", "--make-rshared"],
    "private": ["--make-rprivate"],
    "shared": [],
}
"""A slave that is shared again is what systemd gives the units with a sandbox."""


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_tree_that_the_host_would_not_see_is_not_made(
    mounted: Mounted, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, _ = mounted
    monkeypatch.setattr(propagation, "FIRST_PROCESS", os.getpid())
    subprocess.run(["mount", "--make-shared", "/run"], check=True)

    def refresh_in_own_namespace() -> Refreshed:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        for option in ISOLATED[kind]:
            subprocess.run(["mount", option, "/"], check=True)
        return machine.refresh_here(**TREE)

    refreshed = in_fork(refresh_in_own_namespace)
    if kind == "shared":
        assert refreshed.code == 0, refreshed
        assert _libcuda()
        return
    assert refreshed.code == 1, refreshed
    assert "the mounts of this process stay in its own mount namespace" in refreshed.message
    assert not os.path.lexists(CURRENT)
    assert machine.contents() == {}
    assert machine.refresh(**TREE).code == 0
    assert _libcuda()


def test_files_that_the_spec_mounts_by_their_paths_are_copies(mounted: Mounted) -> None:
    """Linux does not mount a file that a package manager has deleted."""
    machine, _ = mounted
    assert machine.refresh(**TREE).code == 0
    mounts = json.loads(machine.gpus.read_bytes())["containerEdits"]["mounts"]
    paths = [mount["hostPath"] for mount in mounts if os.path.isfile(mount["hostPath"])]
    assert f"{CURRENT}/lib64/libcuda.so.1" in paths
    assert {os.stat(path).st_dev for path in paths} == {os.stat(CURRENT).st_dev}
