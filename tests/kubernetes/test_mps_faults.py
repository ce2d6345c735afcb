# SPDX-License-Identifier: Apache-2.0
"""What surrounds the daemons of MPS is hostile, foreign or hangs: nothing of others is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdi_gen.kubernetes.mps import directories, keeper
from cdi_gen.kubernetes.mps.program import ControlProgram
from tests.kubernetes.kubelet import wait_until
from tests.kubernetes.mps_node import UUIDS, MpsNode, folder, quick, stand_in

__all__ = ["folder", "quick", "stand_in"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may use the directory of MPS")

LISTENER = """
import socket, sys, time
listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listening.bind(sys.argv[1])
listening.listen()
time.sleep(60)
"""


def test_a_daemon_that_hangs_keeps_its_directory(
    stand_in: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sharing.mps was taken from the config while a daemon hung: its directory was removed, its
    clients could connect no more, and the daemon ran for ever."""
    mps = stand_in.serving()
    pids = [stand_in.pid(uuid) for uuid in UUIDS[:2]]
    with monkeypatch.context() as patch:
        patch.setattr(ControlProgram.ask, "__kwdefaults__", {"seconds": 0.3})
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        mps.want((), stand_in.host, lambda: None)
        time.sleep(1.5)
        assert sorted(stand_in.root.names()) == sorted(UUIDS[:2])
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not stand_in.root.names())


def test_a_directory_of_the_administrator_is_not_removed(stand_in: MpsNode) -> None:
    """Each directory whose name began with GPU- was taken for that of a daemon that had ended."""
    mps = stand_in.serving()
    backup = Path(stand_in.root.path, "GPU-backup")
    backup.mkdir()
    (backup / "notes").write_text("text")
    mps.want((), stand_in.host, lambda: None)
    wait_until(lambda: not stand_in.root.names())
    time.sleep(0.5)
    assert (backup / "notes").read_text() == "text"


def test_nothing_is_removed_where_others_may_write(stand_in: MpsNode) -> None:
    """Root would have removed what another user had moved there."""
    path = Path(stand_in.root.path)
    (path / UUIDS[0] / "pipe").mkdir(parents=True)
    path.chmod(0o777)
    assert stand_in.root.names() == []


def test_a_process_that_is_no_daemon_is_not_killed(
    stand_in: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id of a socket's process may be that of another process by now."""
    pipe = Path(stand_in.root.path, UUIDS[0], "pipe")
    pipe.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", LISTENER, str(pipe / "control")]) as process:
        try:
            with monkeypatch.context() as patch:
                patch.setattr(ControlProgram.ask, "__kwdefaults__", {"seconds": 0.5})
                patch.setattr(keeper, "HANG_SECONDS", 0.5)
                wait_until((pipe / "control").exists)
                mps = stand_in.start()
                wait_until(lambda: UUIDS[0] in mps.unusable() and stand_in.messages("CDG-N222"))
                time.sleep(2)
                assert process.poll() is None
                assert UUIDS[0] in mps.unusable()
        finally:
            process.kill()
    wait_until(lambda: not mps.unusable())


def test_a_keeper_goes_on_after_an_error_that_nobody_expects(
    stand_in: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread ended with a traceback, and a daemon that ended later was not started again."""
    real = ControlProgram.limit
    failures: list[int] = []

    def limit(program: ControlProgram, environment: dict[str, str], *commands: str) -> None:
        if len(failures) < 2:
            failures.append(1)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        real(program, environment, *commands)

    monkeypatch.setattr(ControlProgram, "limit", limit)
    stand_in.serving()
    assert any("Too many open files" in text for text in stand_in.messages("CDG-N221"))


def test_an_answer_that_is_no_text_is_a_complaint(folder: Path) -> None:
    """It was a UnicodeDecodeError in the thread of the keeper."""
    program = folder / "control"
    program.write_text("#!/bin/sh\nprintf '\\377\\n'\n")
    program.chmod(0o755)
    assert ControlProgram(path=str(program)).ask({}, "anything") == "\\xff"


def test_a_log_that_grows_fast_is_shortened_before_the_daemon_is_asked_again(
    stand_in: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that connected and failed in a loop filled /run with 170 MB in a minute."""
    monkeypatch.setattr(directories, "MAX_LOG_BYTES", 100)
    monkeypatch.setattr(keeper, "ASK_INTERVAL", 3600.0)
    stand_in.serving()
    log = Path(stand_in.root.path) / UUIDS[0] / "log/control"
    with log.open("a", encoding="utf-8") as stream:
        stream.write("x" * 1000)
    wait_until(lambda: log.stat().st_size < 100)


def test_a_config_that_changes_from_mps_to_time_slicing_leaves_the_daemons_of_pods(
    stand_in: MpsNode,
) -> None:
    """Pods that were allocated before keep their daemon and its socket; a GPU whose daemon hung is
    offered for time-slicing; and a change back adopts the daemons."""
    mps = stand_in.serving()
    stand_in.behave("clients")
    pids = [stand_in.pid(uuid) for uuid in UUIDS[:2]]
    socket = Path(stand_in.root.path, UUIDS[0], "clients/control")
    identity = socket.stat().st_ino
    os.kill(pids[1], signal.SIGKILL)
    wait_until(lambda: stand_in.messages("CDG-N222"))
    mps.stop()  # as the command does when the config has changed
    mps = stand_in.start(stand_in.shared(strategy="time-slicing"))
    assert mps.unusable() == frozenset()
    asked = stand_in.ask(UUIDS[0], "get_client_list 77")
    assert (asked, stand_in.pid(UUIDS[0]), socket.stat().st_ino) == ("78", pids[0], identity)
    mps.stop()
    stand_in.serving()
    assert stand_in.pid(UUIDS[0]) == pids[0]
    assert socket.stat().st_ino == identity
    assert stand_in.ask(UUIDS[0], "get_default_active_thread_percentage") == "25.0"


def test_the_log_of_a_daemon_that_is_not_wanted_any_more_is_shortened(
    stand_in: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "MAX_LOG_BYTES", 100)
    mps = stand_in.serving()
    stand_in.behave("clients")
    mps.want((), stand_in.host, lambda: None)
    log = Path(stand_in.root.path) / UUIDS[0] / "log/control"
    with log.open("a", encoding="utf-8") as stream:
        stream.write("x" * 1000)
    wait_until(lambda: log.stat().st_size < 100)
