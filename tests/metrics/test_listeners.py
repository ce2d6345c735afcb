# SPDX-License-Identifier: Apache-2.0
"""Sockets that metrics are served at, and what may be in their way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdi_gen.errors import UsageError
from cdi_gen.metrics.web.listeners import Address, Listener, ListenError, listen, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9400", Address(host="127.0.0.1", port=9400)),
        (":9400", Address(port=9400)),
        ("[::1]:0", Address(host="::1")),
        ("[::]:9400", Address(host="::", port=9400)),
        ("localhost:9400", Address(host="localhost", port=9400)),
        ("unix:/run/metrics.sock", Address(path="/run/metrics.sock")),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "9400", "localhost", "localhost:", ":http", ":65536", ":-1", ":٣", "::1:9400"),
        *("unix:", "unix:metrics.sock", "unix:/run/", f"unix:/{'a' * 107}", "unix:/a\0b"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        parse(text)


@contextmanager
def listening(path: Path, mode: int = 0o660) -> Iterator[Listener]:
    listener = listen(Address(path=str(path)), mode)
    try:
        yield listener
    finally:
        listener.close()


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def leave(path: Path) -> None:
    """Leave the socket of a program that was killed."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def test_a_socket_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    before = os.umask(0o077)
    try:
        with listening(path, 0o666):
            assert path.stat().st_mode & 0o777 == 0o666
            connect(path)
    finally:
        os.umask(before)
    assert [*tmp_path.iterdir()] == []


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    leave(path)
    with listening(path):
        connect(path)


def test_a_socket_that_a_program_listens_at_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening(path):
        with pytest.raises(ListenError, match="a running program listens there"), listening(path):
            pass
        connect(path)
    assert [*tmp_path.iterdir()] == []


def test_a_socket_of_datagrams_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ListenError, match="listens there"), listening(path):
            pass
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "broken link", "pipe"])
def test_what_is_no_socket_is_kept(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "socket", tmp_path / "other"
    if kind == "file":
        path.write_text("content")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        leave(other)
        path.symlink_to(other)
    elif kind == "broken link":
        path.symlink_to(other)
    else:
        os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(ListenError, match="is not a socket"), listening(path):
        pass
    assert path.lstat().st_ino == before.st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of other users")
def test_a_socket_of_another_user_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    leave(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(ListenError, match="user 65534"), listening(path):
        pass
    assert path.is_socket()


def test_a_socket_that_another_program_has_replaced_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening(path):
        path.unlink()
        leave(path)
    assert path.is_socket()


def test_of_many_programs_that_start_at_the_same_time_one_listens(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    leave(path)
    code = (
        "import sys, time\n"
        "from cdi_gen.metrics.web.listeners import Address, ListenError, listen\n"
        "sys.stdin.readline()\n"
        "try:\n    listener = listen(Address(path=sys.argv[1]))\n"
        "except ListenError:\n    print('refused', flush=True)\n"
        "else:\n    print('listens', flush=True)\n    sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [process.stdout.readline().strip() for process in processes if process.stdout]
    connect(path)
    for process in processes:
        process.communicate()
    assert sorted(outcomes) == ["listens", "refused", "refused", "refused"]


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ListenError, match="No such file or directory") as error,
        listening(tmp_path / "none/socket"),
    ):
        pass
    assert "create the directory" in (error.value.hint or "")


def test_what_is_no_name_is_an_error() -> None:
    with pytest.raises(ListenError, match=r"cannot listen at a\.\.b:9400"):
        listen(Address(host="a..b", port=9400))
