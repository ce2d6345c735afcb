# SPDX-License-Identifier: Apache-2.0
"""The system calls of `RootFs`: their flags, their directory descriptors, and left-over files.

The effect of a flag shows only in a race or on a special file system; these tests show its presence.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_base import files as base_files
from cdi_base import process, trust
from cdi_base.rootfs.rootfs import RootFs
from tests.hook.roots import failing, files, root

__all__ = ["files", "root"]


def everything(files: RootFs) -> None:
    """Call every method of `RootFs` once."""
    files.put("/etc/file", b"new")
    files.put("/made/for/file", b"new")
    files.put("/etc/file", b"new")
    files.link("/etc/link", "file")
    files.link("/etc/link", "file")
    assert files.read("/etc/link", 10) == b"new"
    assert files.names("/etc") == ["file", "link"]
    assert files.is_directory("/made")
    assert not files.is_directory("/etc/file")
    assert files.remove("/etc/link")
    os.close(files.open_file("/etc/file"))
    os.close(files.find_within(files.descriptor, "/etc"))


def test_every_open_has_its_flags(files: RootFs, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, int, int, int | None]] = []
    real = os.open

    def recording(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened.append((path, flags, mode, dir_fd))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", recording)
    everything(files)
    monkeypatch.undo()
    made = 0
    for path, flags, mode, dir_fd in opened:
        assert flags & os.O_CLOEXEC, path
        assert not flags & (os.O_TRUNC | os.O_RDWR | os.O_APPEND), path
        if path.startswith("/proc/self/fd/"):
            assert flags & os.O_NONBLOCK, path
            assert flags & os.O_NOCTTY, path
        elif not path.startswith("/"):
            assert dir_fd is not None, path
            assert flags & os.O_NOFOLLOW or path == ".", path
            # Every file that is not created is opened with O_PATH first, or must be a directory.
            assert flags & (os.O_PATH | os.O_DIRECTORY | os.O_EXCL), path
        if flags & os.O_CREAT:
            made += 1
            assert flags & os.O_EXCL
            assert mode == 0o600
    assert made == 2


def test_no_path_is_relative_to_the_working_directory(
    files: RootFs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call without its `dir_fd` would use the host's directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("file", "link", "made", "for"):
        (elsewhere / name).write_text("of the host")
    monkeypatch.chdir(elsewhere)
    everything(files)
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == dict.fromkeys(
        ("file", "link", "made", "for"), "of the host"
    )


@pytest.mark.parametrize("squatter", ["link", "hard link", "file", "pipe"])
def test_existing_file_with_a_temporary_name_is_not_used(
    files: RootFs, root: Path, monkeypatch: pytest.MonkeyPatch, squatter: str
) -> None:
    """A21: the temporary name is random; the test replaces it by a fixed name."""
    monkeypatch.setattr(base_files, "temporary_name", lambda: ".cdi-gen-0")
    temporary, secret = root / "etc/.cdi-gen-0", root.parent / "outside/secret"
    if squatter == "link":
        temporary.symlink_to(secret)
    elif squatter == "hard link":
        os.link(secret, temporary)
    elif squatter == "file":
        temporary.write_text("squatter")
    else:
        os.mkfifo(temporary)
    with pytest.raises(FileExistsError):
        files.put("/etc/file", b"new")
    assert (root / "etc/file").read_text() == "old"
    assert secret.read_text() == "outside"


def test_temporary_names_cannot_be_guessed() -> None:
    names = {base_files.temporary_name() for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".cdi-gen-") and len(name) == 9 + 16 + 4 for name in names)


def unread(root: Path) -> dict[Path, tuple[int, int, int]]:
    """The attributes of a tree that change, except those that reading changes."""
    statuses = {path: path.lstat() for path in root.rglob("*")}
    return {
        path: (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in statuses.items()
    }


class TestWhatIsMade:
    def test_modes_and_owners(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.chown(root, 100000, 100001)
        os.chown(root / "etc", 7, 7)
        before = os.umask(0)
        try:
            files = RootFs(os.open(root, os.O_PATH | os.O_DIRECTORY))
            files.put("/made/for/file", b"new")
            files.link("/etc/link", "file")
        finally:
            os.umask(before)
        modes = {
            name: (root / name).lstat()
            for name in ("made", "made/for", "made/for/file", "etc/link")
        }
        assert {stat.S_IMODE(status.st_mode) for status in modes.values()} == {0o755, 0o644, 0o777}
        assert {(status.st_uid, status.st_gid) for status in modes.values()} == {(100000, 100001)}
        assert (root / "etc").stat().st_uid == 7
        os.close(files.descriptor)

    def test_new_files_in_a_root_of_root_belong_to_root(self, root: Path) -> None:
        os.chown(root, os.geteuid(), 7)
        files = RootFs(os.open(root, os.O_PATH | os.O_DIRECTORY))
        files.put("/made/file", b"new")
        assert (root / "made/file").stat().st_gid == os.getegid()
        os.close(files.descriptor)

    def test_in_a_user_namespace_it_belongs_to_its_root(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.chown(root, 100000, 100001)
        monkeypatch.setattr(trust, "in_first_user_namespace", lambda: False)
        files = RootFs(os.open(root, os.O_PATH | os.O_DIRECTORY))
        files.put("/made/file", b"new")
        assert (root / "made/file").stat().st_uid == os.geteuid()
        os.close(files.descriptor)

    def test_directory_that_another_process_created_is_not_changed(
        self, files: RootFs, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files._owner = (100000, 100001)
        real = os.mkdir

        def lost(path: str, mode: int, *, dir_fd: int) -> None:
            real(path, mode, dir_fd=dir_fd)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

        monkeypatch.setattr(os, "mkdir", lost)
        assert files.put("/made/file", b"new")
        assert (root / "made").stat().st_uid == os.geteuid()
        assert (root / "made/file").stat().st_uid == 100000

    def test_deepest_directory(self, files: RootFs, root: Path) -> None:
        assert files.put("/n" * 16 + "/file", b"x")
        with pytest.raises(OSError, match="File name too long"):
            files.put("/m" * 17 + "/file", b"x")
        assert not (root / "m").exists()

    def test_second_call_changes_nothing(self, files: RootFs, root: Path) -> None:
        assert files.link("/etc/link", "file")
        assert files.put("/etc/file", b"new")
        before = unread(root)
        assert files.link("/etc/link", "file") is False
        assert files.put("/etc/file", b"new") is False
        assert unread(root) == before
        assert files.link("/etc/link", "other") is True
        assert os.readlink(root / "etc/link") == "other"
        assert files.link("/etc/file", "other") is True
        assert files.put("/etc/link", b"new") is True

    def test_changes_are_reported(self, root: Path) -> None:
        changes: list[str] = []
        files = RootFs(os.open(root, os.O_PATH), tell=changes.append)
        everything(files)
        assert changes == [
            "write /etc/file", "write /made/for/file", "link /etc/link to file", "remove /etc/link"
        ]  # fmt: skip
        files.report_change("more")
        assert not files.is_dry_run
        os.close(files.descriptor)

    @pytest.mark.parametrize(
        ("act", "fails"),
        [
            *(("put", fails) for fails in ("open", "write", "fchown", "fchmod", "rename")),
            *(("link", fails) for fails in ("symlink", "chown", "rename")),
        ],
    )
    def test_failing_call_leaves_no_file(
        self, files: RootFs, root: Path, monkeypatch: pytest.MonkeyPatch, act: str, fails: str
    ) -> None:
        files._owner = (100000, 100001)
        real: Callable[..., Any] = getattr(os, fails)
        done: list[Any] = []

        def interrupted(*words: Any, **more: Any) -> object:
            result = real(*words, **more)
            if fails == "open" and not words[1] & os.O_CREAT:
                return result
            done.append(result)
            raise process.InterruptedHookError(15)

        monkeypatch.setattr(os, fails, interrupted)
        words = {"put": ("/etc/file", b"new"), "link": ("/etc/link", "file")}
        with pytest.raises(process.InterruptedHookError):
            getattr(files, act)(*words[act])
        monkeypatch.undo()
        for result in done:
            if fails == "open":
                os.close(result)
        assert [name for name in os.listdir(root / "etc") if name.startswith(".")] == []
        assert fails == "rename" or (root / "etc/file").read_text() == "old"

    def test_below_a_link_to_a_folder(self, files: RootFs, root: Path) -> None:
        """In most images /lib is a link to a directory."""
        (root / "usr/lib").mkdir(parents=True)
        (root / "lib").symlink_to("usr/lib")
        assert files.put("/lib/new/deep/file", b"x")
        assert (root / "usr/lib/new/deep/file").read_bytes() == b"x"
        assert (root / "lib").is_symlink()

    @pytest.mark.parametrize("kind", ["pipe", "link"])
    def test_a_special_file_is_replaced_whatever_its_size(
        self, files: RootFs, root: Path, kind: str
    ) -> None:
        if kind == "pipe":
            os.mkfifo(root / "etc/odd")
        else:
            (root / "etc/odd").symlink_to("four")
        content = b"four" if kind == "link" else b""
        assert files.put("/etc/odd", content) is True
        assert (root / "etc/odd").lstat().st_size == len(content)
        assert stat.S_ISREG((root / "etc/odd").lstat().st_mode)

    def test_removing_a_file_that_has_just_gone_returns_false(
        self, files: RootFs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "has", lambda _: True)
        assert files.remove("/etc/no") is False

    def test_a_file_that_cannot_be_examined_is_not_replaced(
        self, files: RootFs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "readlink", failing)
        with pytest.raises(OSError, match="Input/output error"):
            files.link("/etc/file", "x")
