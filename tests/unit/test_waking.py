# SPDX-License-Identifier: Apache-2.0
"""What ends a wait of a long-running command."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdi_gen import waking
from cdi_gen.waking import Waker
from tests.host.looking import SOURCES

LONG = 20.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "device-plugins"
    folder.mkdir()
    return folder


@pytest.fixture
def waker(directory: Path) -> Iterator[Waker]:
    waker = Waker(str(directory))
    yield waker
    waker.close()


def seconds(waker: Waker, limit: float = LONG) -> float:
    """Return how long a wait takes."""
    started = time.monotonic()
    waker.wait(limit)
    return time.monotonic() - started


@contextmanager
def later(action: Callable[[], object]) -> Iterator[None]:
    """Do something 0.1 s after the begin of the block."""
    timer = threading.Timer(0.1, action)
    timer.start()
    yield
    timer.join()


def make_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)  # bind takes no path of more than 107 characters


@pytest.mark.parametrize("change", ["created", "deleted", "renamed", "woken"])
def test_a_change_ends_the_wait(waker: Waker, directory: Path, change: str) -> None:
    make_socket(directory / "old.sock")
    waker.wait(0)
    actions: dict[str, Callable[[], object]] = {
        "created": lambda: make_socket(directory / "kubelet.sock"),
        "deleted": (directory / "old.sock").unlink,
        "renamed": lambda: (directory / "old.sock").rename(directory / "new.sock"),
        "woken": waker.wake,
    }
    started = time.monotonic()
    with later(actions[change]):
        assert seconds(waker) < LONG / 2
    assert time.monotonic() - started >= 0.1, "nothing else ends the wait"
    assert seconds(waker, 0.3) >= 0.3, "the change ends one wait"


def test_a_wake_before_the_wait_is_not_lost(waker: Waker) -> None:
    for _ in range(10_000):
        waker.wake()
    assert seconds(waker) < LONG / 2


def test_a_change_before_the_wait_is_not_lost(waker: Waker, directory: Path) -> None:
    waker.wait(0)
    make_socket(directory / "kubelet.sock")
    assert seconds(waker) < LONG / 2


def test_a_directory_that_is_replaced_is_watched(waker: Waker, directory: Path) -> None:
    waker.wait(0)
    directory.rename(directory.with_name("old"))
    directory.mkdir()
    waker.wait(0)
    with later(lambda: make_socket(directory / "kubelet.sock")):
        assert seconds(waker) < LONG / 2


def test_a_new_directory_with_the_identity_of_the_old_one_is_watched(
    waker: Waker, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ext4 gives a new directory the inode of one that was just removed; the plugin then noticed a
    kubelet only every five seconds."""
    status = os.stat(directory)
    monkeypatch.setattr(waking, "os", SimpleNamespace(**{**vars(os), "stat": lambda _path: status}))
    waker.wait(0)
    directory.rmdir()
    directory.mkdir()
    waker.wait(0.2)
    waker.wait(0)
    with later(lambda: make_socket(directory / "kubelet.sock")):
        assert seconds(waker) < LONG / 2


def refuse(directory: str) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), directory)


LIMITED = """
import sys
from cdi_gen.waking import Waker
waker = Waker(sys.argv[1])
for _ in range(3):
    waker.wait(60)
(finding,) = waker.findings()
print(finding.message, finding.fix)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user namespace")
@pytest.mark.parametrize("limit", ["instances", "watches"])
def test_a_limit_of_inotify_is_named_and_the_plugin_looks(directory: Path, limit: str) -> None:
    """Each container of a node may use up the limit of its user."""
    script = f'echo 0 > /proc/sys/user/max_inotify_{limit}; exec "$@"'
    ended = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "/bin/sh", "-ec", script, "sh"),
            *(sys.executable, "-c", LIMITED, str(directory)),
        ],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert f"{directory} cannot be watched: " in ended.stdout, ended.stderr
    assert f"fs.inotify.max_user_{limit}" in ended.stdout


def test_a_limit_that_is_raised_lets_the_plugin_watch_again(
    waker: Waker, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(waking, "_watch", refuse)
        waker.wait(0)
        assert waker.findings()
    waker.wait(0)
    assert not waker.findings()
    with later(lambda: make_socket(directory / "kubelet.sock")):
        assert seconds(waker) < LONG / 2


@pytest.mark.parametrize("reason", ["no directory", "no inotify"])
def test_what_cannot_be_watched_is_looked_at(
    waker: Waker, directory: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "no directory":
        directory.rmdir()
    else:
        monkeypatch.setattr(waking, "_watch", refuse)
    assert waking.POLL_SECONDS <= seconds(waker) < LONG / 2


def test_a_waker_that_is_closed_wakes_nobody(directory: Path) -> None:
    waker = Waker(str(directory))
    waker.wait(0)
    descriptors = [
        file.fileno()
        for owner in (waker, *waker._directories)
        for file in vars(owner).values()
        if isinstance(file, (socket.socket, io.FileIO))
    ]
    waker.close()
    assert len(descriptors) == 3
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    waker.wake()
