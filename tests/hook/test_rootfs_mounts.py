# SPDX-License-Identifier: Apache-2.0
"""Which mount `RootFs` writes to: the root's, a clone of it, or the engine's /dev."""

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


def test_whatever_is_written_stays_in_the_mount(root: Path) -> None:
    """Also what is found while folders are made."""
    asked: list[bool] = []

    def resolver(directory: int, path: str, stay: bool) -> int:
        asked.append(stay)
        return resolve.by_kernel(directory, path, stay)

    files = RootFs(os.open(root, os.O_PATH), resolver)
    files.put("/etc/file", b"new")
    files.put("/made/for/file", b"new")
    files.link("/made/too/link", "text")
    assert len(asked) >= 7
    assert all(asked)
    os.close(files.descriptor)


class TestAReadOnlyRoot:
    """crun makes `--read-only` before the hooks: what is written goes through a clone of the mount."""

    @pytest.fixture(autouse=True)
    def read_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))

    def test_the_clone_is_written_to(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_a_volume_is_looked_for_where_there_are_any(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The clone of one mount does not have them."""
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
    def test_without_one_it_is_as_it_is(
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
        told: list[str] = []
        (root / "dev").mkdir()
        devices = os.open(root / "dev", os.O_PATH)
        files = RootFs(os.open(root, os.O_PATH), resolve.by_walking, tell=told.append)
        asked: list[int] = []

        def answer(root: int) -> int:
            asked.append(root)
            return devices

        monkeypatch.setattr(mounts, "devices", answer)
        home, path = files.writable_root("/dev/x/y")
        assert asked == [files.descriptor]
        assert (home.descriptor, path) == (devices, "/x/y")
        assert home._resolve is files._resolve
        home.link(path, "text")
        assert os.readlink(root / "dev/x/y") == "text"
        assert told == ["link /dev/x/y to text"]
