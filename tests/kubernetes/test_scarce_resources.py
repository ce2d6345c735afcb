# SPDX-License-Identifier: Apache-2.0
"""Processes, threads or descriptors run out, answers are cut off: the device plugin goes on."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen import waking
from cdi_gen.host import Where
from cdi_gen.kubernetes.plugin import server
from cdi_gen.kubernetes.probe import Facts, ProbeError, probe
from tests.kubernetes.kubelet import wait_until
from tests.kubernetes.test_health_process import EVENT, Watching, watch
from tests.kubernetes.test_supervisor import HGX, SetHost, StartNode, start

__all__ = ["start", "watch"]


def no_process(*_: object, **__: object) -> None:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_probe_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that asked ended with a traceback, and the host was never examined again."""
    monkeypatch.setattr(subprocess, "Popen", no_process)
    with pytest.raises(ProbeError, match="cannot be run: Resource temporarily unavailable") as e:
        probe(Where())
    assert e.value.code == "CDG-N108"


@pytest.mark.parametrize("answer", ["[]", "7", "{}", '{"error": {}}', '{"inventory": 5}', "\udcff"])
def test_an_answer_of_another_form_is_an_error(answer: str) -> None:
    """The files of cdi-gen are replaced by those of another version while the plugin runs."""
    text = f"import sys; sys.stdout.buffer.write({os.fsencode(answer)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    )
    with pytest.raises(ProbeError, match="the process that examines the host ended"):
        probe(Where(), started=process)


def test_a_host_that_raises_what_nobody_expects_is_examined_again(start: StartNode) -> None:
    """The plugin waited for the answer of a thread that had ended, for ever."""
    node = start()
    wait_until(lambda: node.count() == 8)
    asked = node.host.asked

    def facts(_: SetHost) -> Facts:
        node.host.asked += 1
        raise KeyError("an error of ours")

    before = SetHost.facts
    try:
        SetHost.facts = facts  # type: ignore[method-assign,assignment]
        node.host.state = replace(HGX)
        wait_until(lambda: node.host.asked >= asked + 3)
    finally:
        SetHost.facts = before  # type: ignore[method-assign]
    assert any("KeyError: 'an error of ours'" in finding.message for finding in node.findings)
    assert node.count() == 8


def test_without_a_thread_for_it_the_host_is_examined_later(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = threading.Thread.start
    refused: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "probe" and len(refused) < 3:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    node = start()
    wait_until(lambda: node.count() == 8)
    assert len(refused) == 3


def test_health_is_watched_again_when_a_process_can_start(
    watch: Callable[[str], Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ended with a traceback, and no error of a GPU was noticed again."""
    real = subprocess.Popen
    failures: list[int] = []

    def refuse_once(*arguments: object, **options: object) -> object:
        if not failures:
            failures.append(1)
            no_process()
        return real(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", refuse_once)
    watching = watch(f"import time; print({EVENT!r}, flush=True); time.sleep(60)")
    wait_until(lambda: watching.changes)
    assert "Resource temporarily unavailable" in watching.messages()[0]


@pytest.mark.parametrize(
    "line", ['{"event": {"gpu', "[]", "{}", json.dumps({"event": {"unknown": 1}}), '"text"']
)
def test_a_line_of_another_form_does_not_end_the_watching(
    watch: Callable[[str], Watching], line: str, tmp_path: Path
) -> None:
    state = tmp_path / "second"
    watching = watch(
        "import os, time, sys; sys.stdin.read()\n"
        f"first = not os.path.exists({str(state)!r}); open({str(state)!r}, 'w').close()\n"
        f"print({line!r} if first else {EVENT!r}, flush=True)\n"
        "time.sleep(0 if first else 60)"
    )
    wait_until(lambda: watching.changes)


def test_a_socket_that_the_kubelet_deletes_first_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin ended with a traceback when the kubelet deleted it between two of its calls."""
    path = tmp_path / "nvidia-gpu.sock"
    path.touch()
    status = path.lstat()
    path.unlink()
    monkeypatch.setattr(stat, "S_ISSOCK", lambda _mode: True)
    monkeypatch.setattr(os, "lstat", lambda _path: status)
    server._remove_socket(str(path))


def test_a_kubelet_whose_directory_cannot_be_watched_is_followed_and_that_is_said_once(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(directory: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), directory)

    monkeypatch.setattr(waking, "_watch", refuse)
    node = start()
    for _ in range(2):
        wait_until(lambda: node.count() == 8)
        node.kubelet.stop()
        node.kubelet.start()
    wait_until(lambda: node.count() == 8)
    assert node.codes().count("CDG-N115") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_directory_of_specs_that_is_read_only_is_said_once_and_waited_for(
    start: StartNode, tmp_path: Path
) -> None:
    """No device is advertised whose spec could not be written: the engine would not know it."""
    specs = tmp_path / "cdi"
    specs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=755", "tmpfs", specs], check=True)
    try:
        node = start()
        wait_until(lambda: node.host.asked >= 3)
        assert node.count() == 0
        (finding,) = (one for one in node.findings if "Read-only file system" in one.message)
        assert str(specs) in finding.message
        assert finding.fix
        subprocess.run(["mount", "-o", "remount,rw", specs], check=True)
        wait_until(lambda: node.count() == 8)
    finally:
        subprocess.run(["umount", "--lazy", specs], check=True)
