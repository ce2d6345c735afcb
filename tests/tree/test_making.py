# SPDX-License-Identifier: Apache-2.0
"""A driver tree is made, replaced and removed, with real mounts."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from cdi_base import syscalls
from cdi_gen import tree
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.tree import mounting
from cdi_gen.tree.fingerprint import Fingerprint
from tests.tree.small_driver import COPIED, FILES, LINKS, MOUNTS, mounts_below, replace, tree_of


def content(path: str | Path) -> dict[str, str]:
    """The text of each file below a path, and of each link."""
    return {
        str(file.relative_to(path)): os.readlink(file) if file.is_symlink() else file.read_text()
        for file in Path(path).rglob("*")
        if file.is_symlink() or file.is_file()
    }


def expected(driver: Path) -> dict[str, str]:
    return LINKS | {path: (driver / name).read_text() for path, name in FILES.items()}


def test_the_tree_has_the_files_of_the_host_and_the_links(driver: Path, root: str) -> None:
    made = tree.make(tree_of(driver), root)
    assert made.changed
    assert os.readlink(f"{root}/current") == made.tree.name
    assert made.tree.name.startswith("550.54-")
    found = content(f"{root}/current")
    description = json.loads(found.pop("driver.json"))
    assert found == expected(driver)
    for path, name in FILES.items():
        in_tree = Path(root, "current", path)
        assert in_tree.samefile(driver / name) == (path not in COPIED)
        assert in_tree.stat().st_mode & 0o111 == (driver / name).stat().st_mode & 0o111
        assert in_tree.stat().st_mtime_ns == (driver / name).stat().st_mtime_ns
    assert (description["driverVersion"], description["cudaVersion"]) == ("550.54", "12.4")
    assert tree.current(root) == made.tree == tree.trees(root)[0]


def test_nothing_in_the_tree_can_be_written_or_gives_rights(driver: Path, root: str) -> None:
    path = tree.make(tree_of(driver), root).tree.path
    mounts = mounts_below(path)
    assert mounts.keys() == {path, *(f"{path}/{file}" for file in FILES.keys() - COPIED)}
    for options in mounts.values():
        assert options >= {"ro", "nosuid", "nodev"}
        # Engines of ordinary users cannot clear this flag of a mount.
        assert "noexec" not in options
    for file in ("bin/nvidia-smi", "driver.json", "new"):
        with pytest.raises(OSError, match="Read-only"):
            Path(path, file).write_text("changed")
    assert (Path(path).stat().st_mode & 0o777, Path(path, "lib64").stat().st_mode & 0o777) == (
        0o755,
        0o755,
    )


def test_every_user_can_read_the_tree_whatever_the_umask(driver: Path, root: str) -> None:
    mask = os.umask(0o077)
    try:
        path = tree.make(tree_of(driver), root).tree.path
    finally:
        os.umask(mask)
    for place in (root, path, f"{path}/lib64", f"{path}/data/etc/OpenCL"):
        assert Path(place).stat().st_mode & 0o055 == 0o055
    assert Path(path, "driver.json").stat().st_mode & 0o777 == 0o444


def test_the_same_driver_changes_nothing(driver: Path, root: str) -> None:
    first = tree.make(tree_of(driver), root)
    before = (mounts_below(root), os.lstat(f"{root}/current"))
    second = tree.make(tree_of(driver), root)
    assert (second.tree, second.changed) == (first.tree, False)
    assert (mounts_below(root), os.lstat(f"{root}/current")) == before
    assert tree.is_current(tree_of(driver), root)
    assert tree.clean(root) == ()


@pytest.mark.parametrize("name", FILES.values())
def test_a_replaced_file_makes_another_tree(driver: Path, root: str, name: str) -> None:
    old = tree.make(tree_of(driver), root).tree
    replace(driver / name, (driver / name).read_text())  # the same size and text
    assert not tree.is_current(tree_of(driver), root)
    assert old.changed_files() == (str(driver / name),)
    new = tree.make(tree_of(driver), root)
    assert new.changed
    assert tree.is_current(tree_of(driver), root)
    assert tree.trees(root) == (new.tree, old)
    assert tree.clean(root, grace=0) == (old.name,)
    assert sorted(os.listdir(root)) == sorted(["current", "lock", new.tree.name])
    assert mounts_below(root).keys() == mounts_below(new.tree.path).keys()


def test_a_new_tree_is_mounted_for_a_while_before_the_link_leads_to_it(
    driver: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """crun does not get the mounts that are made after it has created a mount namespace."""
    settle = 4711.0
    waits: list[tuple[str, int]] = []
    sleep = time.sleep

    def wait(seconds: float) -> None:
        if seconds == settle:
            waits.append((os.readlink(f"{root}/current"), len(tree.trees(root))))
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", wait)
    old = tree.make(tree_of(driver), root, settle=settle).tree
    assert waits == []  # no container can have been started with the link
    tree.make(tree_of(driver), root, settle=settle)
    assert waits == []
    new = tree.make(tree_of(driver, without="nvidia-smi"), root, settle=settle).tree
    assert waits == [(old.name, 2)]
    assert os.readlink(f"{root}/current") == new.name


def test_the_old_tree_keeps_the_files_that_a_package_manager_deletes(
    driver: Path, root: str
) -> None:
    """So containers start while the driver is being installed, and the loaded module fits."""
    before = expected(driver)
    path = tree.make(tree_of(driver), root).tree.path
    for name in FILES.values():
        (driver / name).unlink()
    found = content(path)
    found.pop("driver.json")
    assert found == before
    with pytest.raises(CdiGenError, match="No such file") as caught:
        tree.make(tree_of(driver), root)
    assert caught.value.code == "CDG-L004"
    assert tree.current(root) is not None


def test_a_container_keeps_its_tree_when_it_is_removed_from_the_host(
    driver: Path, root: str, tmp_path: Path
) -> None:
    """A container has clones of the mounts, private, in a mount namespace of its own."""
    before = expected(driver)
    tree.make(tree_of(driver), root)
    inside = tmp_path / "inside"
    inside.mkdir()
    script = f"mount --rbind --make-rprivate {root}/current {inside}; echo mounted; read line"
    command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"mounted\n"
        assert len(mounts_below(inside, container.pid)) == MOUNTS
        for name in FILES.values():
            replace(driver / name, "of a newer driver\n")
        tree.make(tree_of(driver), root)
        assert len(tree.clean(root, grace=0)) == 1
        for name in FILES.values():
            (driver / name).unlink()
        assert tree.remove(root)
        found = content(f"/proc/{container.pid}/root{inside}")
        container.communicate(b"end\n")
    found.pop("driver.json")
    assert found == before


def test_remove_leaves_the_lock_alone(driver: Path, root: str) -> None:
    tree.make(tree_of(driver), root)
    other = tree.make(tree_of(driver, without="nvidia-smi"), root).tree
    assert len(tree.remove(root)) == 2
    assert os.listdir(root) == ["lock"]
    assert mounts_below(root) == {}
    assert tree.current(root) is None
    assert not tree.is_current(tree_of(driver), root)
    assert not Path(other.path).exists()


def test_without_any_tree_there_is_nothing_to_remove(root: str) -> None:
    assert (tree.current(root), tree.trees(root)) == (None, ())
    assert (tree.clean(root), tree.remove(root)) == ((), ())
    assert not Path(root).exists()


def test_the_former_tree_is_kept_for_containers_that_are_being_started(
    driver: Path, root: str
) -> None:
    tree.make(tree_of(driver), root)
    tree.make(tree_of(driver, without="nvidia-smi"), root)
    since = os.lstat(f"{root}/current").st_mtime
    assert tree.clean(root, grace=0.3)
    assert time.time() - since >= 0.3


def test_a_failure_leaves_the_current_tree_and_no_litter(
    driver: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tree.make(tree_of(driver), root).tree
    before = (mounts_below(root), sorted(os.listdir(root)))

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "move_mount")

    monkeypatch.setattr(syscalls, "attach", refuse)
    with pytest.raises(CdiGenError, match=r"move_mount: Operation not permitted") as caught:
        tree.make(tree_of(driver, without="nvidia-smi"), root)
    assert caught.value.code == "CDG-L001"
    assert tree.current(root) == made
    assert (mounts_below(root), sorted(os.listdir(root))) == before


@pytest.mark.parametrize("name", ["nvidia-smi", "nvidia.icd"])
def test_a_file_that_is_replaced_while_the_tree_is_made_is_not_in_it(
    driver: Path, root: str, name: str
) -> None:
    fingerprint = Fingerprint.of(tree_of(driver))
    replace(driver / name, "of another driver\n")
    Path(root).mkdir(parents=True)
    with pytest.raises(mounting.ChangedError, match=name):
        mounting.attach(fingerprint, root)
    assert mounts_below(root) == {}


def test_a_driver_that_is_replaced_again_and_again_is_reported(
    driver: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def attach(fingerprint: Fingerprint, _target: str) -> None:
        seen.append(fingerprint.name)
        replace(driver / "nvidia-smi", f"number {len(seen)}\n")
        raise mounting.ChangedError

    monkeypatch.setattr(mounting, "attach", attach)
    with pytest.raises(CdiGenError, match="are being replaced") as caught:
        tree.make(tree_of(driver), root)
    assert caught.value.code == "CDG-L004"
    assert len(set(seen)) == 3
    assert os.listdir(root) == ["lock"]


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_only_regular_files_are_in_the_tree(driver: Path, root: str, kind: str) -> None:
    """A link in the place of a file would show containers another file of the host."""
    file = driver / "nvidia-smi"
    file.unlink()
    if kind == "link":
        file.symlink_to("/etc/shadow")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    with pytest.raises(CdiGenError, match="nvidia-smi: not a regular file"):
        tree.make(tree_of(driver), root)
    assert mounts_below(root) == {}


def test_a_directory_that_others_can_change_is_refused(driver: Path, root: str) -> None:
    Path(root).mkdir(parents=True)
    Path(root).parent.chmod(0o777)
    with pytest.raises(UnsafeError, match="can be written to by others") as caught:
        tree.make(tree_of(driver), root)
    assert caught.value.code == "CDG-L003"
    assert os.listdir(root) == []


def test_a_link_or_file_in_the_place_of_a_tree_is_not_followed(driver: Path, root: str) -> None:
    name = Fingerprint.of(tree_of(driver)).name
    other = Path(root).parent / "other"
    other.mkdir(parents=True)
    Path(root).mkdir()
    Path(root, name).symlink_to(other)
    with pytest.raises(CdiGenError):
        tree.make(tree_of(driver), root)
    assert mounts_below(other) == {}
    assert tree.current(root) is None


def test_only_root_makes_a_tree(driver: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CdiGenError, match="only root") as caught:
        tree.make(tree_of(driver), root)
    assert caught.value.code == "CDG-L002"


def test_an_older_kernel_builds_the_tree_in_place(
    driver: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux before 5.2 has no open_tree(2)."""

    def absent(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "open_tree")

    monkeypatch.setattr(syscalls, "clone_tree", absent)
    made = tree.make(tree_of(driver), root)
    found = content(made.tree.path)
    found.pop("driver.json")
    assert found == expected(driver)
    assert len(mounts_below(root)) == MOUNTS
    tree.make(tree_of(driver, without="nvidia-smi"), root)
    assert tree.clean(root, grace=0) == (made.tree.name,)
    tree.remove(root)
    assert mounts_below(root) == {}


def test_an_older_kernel_leaves_nothing_half_built(driver: Path, root: str) -> None:
    fingerprint = Fingerprint.of(tree_of(driver))
    replace(driver / "nvidia.icd", "another\n")
    Path(root).mkdir(parents=True)
    with pytest.raises(mounting.ChangedError):
        mounting._build_in_place(fingerprint, root)
    assert mounts_below(root) == {}


def test_what_a_killed_process_left_mounted_is_replaced(driver: Path, root: str) -> None:
    """An older kernel builds in place, so that a tree may be incomplete."""
    path = f"{root}/{Fingerprint.of(tree_of(driver)).name}"
    Path(path).mkdir(parents=True)
    for _ in range(2):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    Path(path, "lib64").mkdir()
    assert tree.current(root) is None
    assert tree.make(tree_of(driver), root).tree.path == path
    lines = Path("/proc/thread-self/mountinfo").read_text().splitlines()
    assert [line.split(" ")[4] for line in lines].count(path) == 1
    tree.remove(root)
    assert not Path(path).exists()


def test_namespaces_that_get_the_mounts_of_run_get_each_tree_and_lose_it(
    driver: Path, root: str, tmp_path: Path
) -> None:
    """A service of systemd with a mount namespace of its own; an engine may be one."""
    run = tmp_path / "run"
    run.mkdir()
    subprocess.run(["mount", "--bind", run, run], check=True)
    subprocess.run(["mount", "--make-shared", run], check=True)
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "echo ready; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == b"ready\n"
        for without in ("", "nvidia.icd"):
            path = tree.make(tree_of(driver, without=without), root).tree.path
            tree.clean(root, grace=0)
            assert mounts_below(root, service.pid).keys() == mounts_below(root).keys()
            assert len(mounts_below(path, service.pid)) == MOUNTS - bool(without)
        tree.remove(root)
        assert mounts_below(root, service.pid) == {}
        service.communicate(b"end\n")


def test_a_namespace_that_gets_no_mounts_has_an_empty_directory(
    driver: Path, root: str, tmp_path: Path
) -> None:
    """An engine in such a namespace fails to mount lib64, and starts no container without it."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; read x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == b"ready\n"
        path = tree.make(tree_of(driver), root).tree.path
        assert os.listdir(f"/proc/{service.pid}/root{path}") == []
        service.communicate(b"end\n")


def test_with_selinux_directories_have_the_label_of_the_driver(
    driver: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without SELinux knows no label, and makes the tree without."""
    fingerprint = Fingerprint.of(tree_of(driver))
    assert mounting._label(fingerprint) == ""
    enforce = tmp_path / "enforce"
    enforce.touch()
    asked = []

    def label_of(path: str, attribute: str) -> bytes:
        asked.append((path, attribute))
        return b"system_u:object_r:lib_t:s0\0"

    monkeypatch.setattr(mounting, "_SELINUX", str(enforce))
    monkeypatch.setattr(os, "getxattr", label_of)
    assert mounting._label(fingerprint) == 'context="system_u:object_r:lib_t:s0"'
    assert asked == [(str(driver), "security.selinux")]
    assert tree.make(tree_of(driver), root).changed
