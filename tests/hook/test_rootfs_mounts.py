# SPDX-License-Identifier: Apache-2.0
"""`RootFs` writes to the root's mount, to a clone of this mount, or to the engine's /dev."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdi_base import syscalls
from cdi_base.errors import HookError
from cdi_base.rootfs import mounts, resolve
from cdi_base.rootfs.rootfs import RootFs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").write_text("old")
    return root


def test_a_root_that_is_no_directory(root: Path) -> None:
    with pytest.raises(HookError, match="not a directory"):
        RootFs(os.open(root / "etc/file", os.O_PATH))


def test_writes_stay_in_the_mount(root: Path) -> None:
    """Also while missing directories are created."""
    stays: list[bool] = []

    def resolver(directory: int, path: str, stay: bool) -> int:
        stays.append(stay)
        return resolve.by_kernel(directory, path, stay)

    files = RootFs(os.open(root, os.O_PATH), resolver)
    files.put("/etc/file", b"new")
    files.put("/made/for/file", b"new")
    files.link("/made/too/link", "text")
    assert len(stays) >= 7
    assert all(stays)
    os.close(files.descriptor)


class TestAReadOnlyRoot:
    """crun makes a root read-only before the hooks: changes go through a clone of the mount."""

    @pytest.fixture(autouse=True)
    def read_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))

    def test_changes_go_through_the_clone(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cloned: list[tuple[int, bool]] = []
        writable: list[int] = []

        def clone(descriptor: int, *, recursive: bool = True) -> int:
            cloned.append((descriptor, recursive))
            return os.open(root.parent / "clone", os.O_PATH)

        (root.parent / "clone/etc").mkdir(parents=True)
        monkeypatch.setattr(syscalls, "clone_tree", clone)
        monkeypatch.setattr(syscalls, "make_writable", writable.append)
        descriptor = os.open(root, os.O_PATH)
        files = RootFs(descriptor)
        assert cloned == [(descriptor, False)]
        assert writable == [files._writable]
        assert files._writable != descriptor
        assert files.put("/etc/file", b"new")
        assert files.put("/etc/deep/down/file", b"new") is True
        assert (root / "etc/file").read_text() == "old"
        assert (root.parent / "clone/etc/file").read_text() == "new"
        assert (root.parent / "clone/etc/deep/down/file").read_text() == "new"
        os.close(files._writable)
        os.close(descriptor)

    def test_volume_is_found_in_the_original_mount(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The clone has only the root's mount and no volumes."""
        (root.parent / "clone/etc").mkdir(parents=True)
        clone = os.open(root.parent / "clone", os.O_PATH)
        descriptor = os.open(root, os.O_PATH)
        monkeypatch.setattr(syscalls, "clone_tree", lambda *_, **__: clone)
        monkeypatch.setattr(syscalls, "make_writable", lambda _: None)

        def resolver(directory: int, path: str, stay: bool) -> int:
            if directory == descriptor and stay:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            return resolve.by_kernel(directory, path, stay)

        files = RootFs(descriptor, resolver)
        with pytest.raises(OSError, match="cross-device"):
            files.put("/etc/file", b"new")
        assert os.listdir(root.parent / "clone/etc") == []
        os.close(clone)
        os.close(descriptor)

    @pytest.mark.parametrize("lacking", ["clone_tree", "make_writable"])
    def test_without_a_clone_the_root_stays_read_only(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
    ) -> None:
        def refused(*_: object, **__: object) -> int:
            raise OSError(errno.ENOSYS, "no")

        monkeypatch.setattr(syscalls, "clone_tree", lambda *_, **__: 99)
        monkeypatch.setattr(syscalls, "make_writable", lambda _: None)
        monkeypatch.setattr(syscalls, lacking, refused)
        descriptor = os.open(root, os.O_PATH)
        assert RootFs(descriptor)._writable == descriptor
        os.close(descriptor)


class TestWhereAPathIsChanged:
    def test_in_the_root(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = RootFs(os.open(root, os.O_PATH))
        for path in ("/etc/x", "/device/x", "/dev"):
            assert files.writable_root(path) == (files, path)
        monkeypatch.setattr(mounts, "devices", lambda _: None)
        assert files.writable_root("/dev/x/y") == (files, "/dev/x/y")

    def test_in_the_engines_dev(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        changes: list[str] = []
        (root / "dev").mkdir()
        devices = os.open(root / "dev", os.O_PATH)
        files = RootFs(os.open(root, os.O_PATH), resolve.by_walking, tell=changes.append)
        roots: list[int] = []

        def answer(root: int) -> int:
            roots.append(root)
            return devices

        monkeypatch.setattr(mounts, "devices", answer)
        home, path = files.writable_root("/dev/x/y")
        assert roots == [files.descriptor]
        assert (home.descriptor, path) == (devices, "/x/y")
        assert home._resolve is files._resolve
        home.link(path, "text")
        assert os.readlink(root / "dev/x/y") == "text"
        assert changes == ["link /dev/x/y to text"]


@pytest.mark.parametrize(
    ("mountinfo", "names"),
    [
        (b"", set()),
        (b"1 2 0:1 / / rw - overlay overlay rw\n", {""}),
        (b"1 2 0:1 /x /r/usr/lib/liba.so.1 ro - ext4 /dev/x rw\n", {"liba.so.1"}),
        (b"1 2 0:1 /x /r/lib\\040a\\134.so ro - ext4 /dev/x rw\n", {"lib a\\.so"}),
        (b"1 2 0:1 /x /r/a ro - ext4 /dev/x rw\n3 4 0:1 /y", {"a"}),
        (b"1 2 0:1 /x /r/lib\xff.so ro - ext4 /dev/x rw\n", {"lib\udcff.so"}),
    ],
)
def test_names_of_mount_points(
    mountinfo: bytes, names: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel escapes some letters; the last line may be cut off."""
    monkeypatch.setattr(mounts, "read_beginning", lambda *_: mountinfo)
    assert mounts.names() == names
