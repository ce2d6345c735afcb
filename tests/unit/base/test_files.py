# SPDX-License-Identifier: Apache-2.0
"""Bounded reads and atomic writes of `cdi_base.files`, and that each reader of files uses them."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdi_base import files, trust
from cdi_base.cdi import spec_directories
from cdi_base.errors import HookError
from cdi_gen import configuration, store
from cdi_gen.cli import named_file
from cdi_gen.engines.change import configuration_file
from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_runtime.bundle import Bundle
from cdi_runtime.config_toml import configuration as config_toml

KINDS = ("fifo", "socket", "directory", "device", "link to a device", "link to a fifo")


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail a test that waits for a pipe's writer."""

    def late(*_: object) -> None:
        raise AssertionError("it waited")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def odd(kind: str, path: Path) -> Iterator[None]:
    """Something at a path that is not a regular file."""
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            listening.bind(str(path))
        elif kind == "directory":
            path.mkdir()
        elif kind == "device":
            if os.geteuid() != 0:
                pytest.skip("needs root")
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
        elif kind == "link to a device":
            path.symlink_to("/dev/zero")
        else:
            os.mkfifo(path.with_name("fifo"))
            path.symlink_to("fifo")
        yield


def bundle(path: Path) -> object:
    return Bundle(str(path.parent), path.name)


def spec_directory(path: Path) -> object:
    found = [file for file in spec_directories.files(str(path.parent)) if file.path == str(path)]
    if not found:  # as engines pass directories over
        raise OSError(errno.EISDIR, "passed over")
    if found[0].content is None:
        raise HookError(found[0].problem or "")
    return found[0].content


def registry(path: Path) -> object:
    for file in store.read([str(path.parent)]).files:
        if file.path == str(path) and file.spec is None:
            raise CdiGenError(str(file.problems[0]))
    if path.is_dir():
        raise CdiGenError("passed over")
    return None


READERS: dict[str, Callable[[Path], object]] = {
    "files.read": lambda path: files.read(str(path), 1 << 20, follow=True),
    "files.read_beginning": lambda path: files.read_beginning(str(path), 1 << 20),
    "trust.read": lambda path: trust.read(str(path), 1 << 20, follow=True),
    "spec directory": spec_directory,
    "store.read": registry,
    "bundle": bundle,
    "NVIDIA's config.toml": lambda path: config_toml.load(str(path)),
    "cdi-gen's config.toml": lambda path: configuration.load(str(path)),
    "a driver root": lambda path: Root().read_bytes(str(path), 1 << 20),
    "an engine's file": lambda path: configuration_file.read(str(path)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_nothing_is_waited_for_and_no_device_is_opened(
    tmp_path: Path, reader: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    opened: list[int] = []
    real = os.open

    def spy(*arguments: Any, **named: Any) -> int:
        descriptor = real(*arguments, **named)
        opened.append(os.fstat(descriptor).st_mode & 0o170000)
        return descriptor

    with odd(kind, path), within(60):
        monkeypatch.setattr(os, "open", spy)
        with pytest.raises((OSError, HookError, CdiGenError)):
            READERS[reader](path)
    assert not {0o020000, 0o010000} & set(opened)


@pytest.mark.parametrize("reader", [name for name in READERS if "beginning" not in name])
def test_a_file_is_read_to_a_limit_however_large(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    os.chmod(path, 0o644)
    if reader == "a driver root":
        assert len(Root().read_bytes(str(path), 100)) == 100
        return
    with within(60), pytest.raises((OSError, HookError, CdiGenError)) as caught:
        READERS[reader](path)
    assert re.search("larger than|more than|too large", str(caught.value))


def test_a_file_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    real = os.read

    def growing(descriptor: int, length: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"x" * 100)
        return real(descriptor, length)

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(OSError, match="larger than 50 bytes"):
        files.read(str(path), 50)


def test_a_file_of_just_the_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert files.read(str(tmp_path / "x"), 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        files.read(str(tmp_path / "x"), 4)
    assert files.read_beginning("/proc/self/status", 5) == b"Name:"


def test_a_file_that_became_a_pipe_after_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    real = os.stat

    def then_a_pipe(*arguments: Any, **named: Any) -> os.stat_result:
        status = real(*arguments, **named)
        path.unlink()
        os.mkfifo(path)
        return status

    monkeypatch.setattr(os, "stat", then_a_pipe)
    before = os.listdir("/proc/self/fd")
    with within(60), pytest.raises(files.NotRegularError):
        files.open_regular(str(path))
    assert os.listdir("/proc/self/fd") == before


def test_a_link_is_not_followed_unless_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "link").symlink_to("x")
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ELOOP))):
        files.read(str(tmp_path / "link"), 9)
    assert files.read(str(tmp_path / "link"), 9, follow=True) == b"x"


@pytest.mark.parametrize("kind", ["device", "link to a device", "socket"])
def test_a_file_that_is_named_on_the_command_line_may_be_a_pipe_alone(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "x.json"
    with odd(kind, path), within(60), pytest.raises(CdiGenError):
        named_file.read(str(path), 1 << 20)


class TestReplace:
    @staticmethod
    def replace(directory: Path, *, durable: bool, **options: Any) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            files.replace("x", b"new", directory=descriptor, durable=durable, **options)
        finally:
            os.close(descriptor)

    @staticmethod
    def recorded(calls: list[str], name: str) -> Callable[..., Any]:
        """The function of `os`, whose calls are noted."""
        real = getattr(os, name)

        def noting(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            return real(*arguments, **named)

        return noting

    @pytest.mark.parametrize("durable", [True, False])
    def test_only_a_durable_file_is_synchronized(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
    ) -> None:
        """The file before the rename, so that a crash leaves no empty file; then the directory."""
        calls: list[str] = []
        for name in ("fsync", "rename"):
            monkeypatch.setattr(os, name, self.recorded(calls, name))
        self.replace(tmp_path, durable=durable)
        assert calls == (["fsync", "rename", "fsync"] if durable else ["rename"])
        assert (tmp_path / "x").read_bytes() == b"new"

    def test_the_mode_is_the_one_that_is_asked_for(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            self.replace(tmp_path, durable=False, mode=0o664)
        finally:
            os.umask(before)
        assert (tmp_path / "x").stat().st_mode & 0o7777 == 0o664

    def test_a_temporary_name_that_is_taken_stays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "taken").write_text("another's")
        monkeypatch.setattr(files, "temporary_name", lambda: "taken")
        with pytest.raises(FileExistsError):
            self.replace(tmp_path, durable=False)
        assert (tmp_path / "taken").read_text() == "another's"
        assert os.listdir(tmp_path) == ["taken"]

    @pytest.mark.parametrize("call", ["write", "fchown", "fchmod", "fsync", "rename", "close"])
    def test_a_fault_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        (tmp_path / "x").write_text("old")
        directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        real = getattr(os, call)

        def failing(*arguments: object, **named: object) -> None:
            if call == "close":
                real(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            owner = (os.geteuid(), os.getegid())
            with pytest.raises(KeyboardInterrupt):
                files.replace("x", b"new", directory=directory, durable=True, owner=owner)
        os.close(directory)
        assert os.listdir(tmp_path) == ["x"]
        assert (tmp_path / "x").read_text() == "old"


def test_directories_are_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.make_directory(f"{tmp_path}/a/b/c/")
        files.make_directory(f"{tmp_path}/a/b/c")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*")} == {0o755}


def test_a_path_of_many_directories_is_created(tmp_path: Path) -> None:
    """More levels than Python calls functions within one another."""
    path = f"{tmp_path}{'/a' * 1500}"
    files.make_directory(path)
    assert os.path.isdir(path)
    os.removedirs(path)  # shutil.rmtree of pytest does call itself for each level


class TestReplacingSpecialFiles:
    """`sudo cdi-gen generate --output /dev/null` must not take /dev/null away from the machine."""

    @staticmethod
    def device(path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))

    def test_a_device_stays(self, tmp_path: Path) -> None:
        self.device(tmp_path / "null")
        store.write_text("text", str(tmp_path / "null"))
        assert stat.S_ISCHR((tmp_path / "null").lstat().st_mode)
        assert os.listdir(tmp_path) == ["null"]

    def test_a_pipe_gets_the_content_and_stays(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        content = "x" * 300_000  # more than a pipe holds
        with (
            open(tmp_path / "copy", "wb") as copy,
            subprocess.Popen(["cat", tmp_path / "pipe"], stdout=copy),
        ):
            descriptor = os.open(tmp_path / "pipe", os.O_WRONLY)  # waits for the reader
            store.write_text(content, str(tmp_path / "pipe"))
            os.close(descriptor)
        assert (tmp_path / "copy").read_text() == content
        assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)

    def test_a_pipe_without_a_reader_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CdiGenError, match="cannot write"):
            store.write_text("text", str(tmp_path / "pipe"))

    def test_a_link_to_a_device_is_neither_followed_nor_replaced(self, tmp_path: Path) -> None:
        """/dev/stdout is such a link; in /tmp, another user may have made one to a disk."""
        self.device(tmp_path / "null")
        (tmp_path / "stdout").symlink_to("null")
        with pytest.raises(CdiGenError, match="not a regular file") as refusal:
            store.write_text("text", str(tmp_path / "stdout"))
        assert refusal.value.hint == "leave out --output to write to standard output"
        assert (tmp_path / "stdout").is_symlink()

    @pytest.mark.parametrize("kind", [stat.S_IFBLK, stat.S_IFSOCK])
    def test_other_special_files_are_refused(self, tmp_path: Path, kind: int) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.mknod(tmp_path / "file", 0o600 | kind, os.makedev(7, 200))
        with pytest.raises(CdiGenError, match="not a regular file"):
            store.write_text("text", str(tmp_path / "file"))
        assert stat.S_IFMT((tmp_path / "file").lstat().st_mode) == kind
