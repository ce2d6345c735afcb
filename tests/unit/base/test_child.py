# SPDX-License-Identifier: Apache-2.0
"""What `cdi_base.child` does with a child that says much, reads nothing, hangs or dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdi_base import child
from tests.left_running import child_processes

BIG = b"x" * (1 << 20)


def soon() -> float:
    return time.monotonic() + 20


def says(content: bytes, status: int = 0) -> Callable[[int, int], object]:
    def become(_reading: int, talking: int) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(talking, rest) :]
        os._exit(status)

    return become


@pytest.fixture(autouse=True)
def nothing_is_left() -> object:
    """Neither a descriptor nor a process."""
    # A fixture of the session may keep a lab, which is a process, for tests after this one.
    before = os.listdir("/proc/self/fd"), {*child_processes()}
    yield
    assert (os.listdir("/proc/self/fd"), {*child_processes()}) == before


def test_its_exit_status_and_what_it_said() -> None:
    assert child.run_forked(says(b" one\ntwo \n", 3), soon(), most=100) == (3, "one\ntwo")


def test_more_than_a_pipe_holds_is_read_and_only_the_first_is_kept() -> None:
    assert child.run_forked(says(b"ab" + BIG), soon(), most=4) == (0, "abxx")


def test_of_a_program_the_last_is_kept(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nhead -c 200000 /dev/zero >&2; echo end of $A >&2; exit 4\n")
    program.chmod(0o755)
    ended = child.run_program([str(program)], {"A": "it", "PATH": "/usr/bin:/bin"}, soon(), most=10)
    assert ended == (4, "end of it")


def test_a_program_that_cannot_be_started() -> None:
    with pytest.raises(FileNotFoundError):
        child.run_program(["/nowhere/program"], {}, soon(), most=10)


def test_it_gets_its_input_whole() -> None:
    def counts(reading: int, talking: int) -> None:
        total = 0
        while piece := os.read(reading, 1 << 16):
            total += len(piece)
        os.write(talking, str(total).encode())
        os._exit(0)

    assert child.run_forked(counts, soon(), most=100, content=BIG) == (0, str(len(BIG)))
    assert child.run_forked(counts, soon(), most=100) == (0, "0")


@pytest.mark.parametrize("given", [b"", b"a little", BIG])
def test_one_that_does_not_read_is_not_waited_for(given: bytes) -> None:
    def closes(reading: int, talking: int) -> None:
        os.close(reading)
        time.sleep(0.3)  # so that the parent meets the closed pipe before it meets the end
        says(b"done")(reading, talking)

    assert child.run_forked(closes, soon(), most=100, content=given) == (0, "done")


def test_one_that_hangs_is_killed_with_its_output_open() -> None:
    def hangs(_reading: int, _talking: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        child.run_forked(hangs, started + 0.2, most=100, content=BIG)
    with pytest.raises(TimeoutError):
        child.run_forked(hangs, time.monotonic() + 0.2, most=100, grace=0.2)
    assert time.monotonic() - started < 30


def test_one_that_hangs_is_killed_with_its_output_closed() -> None:
    def hangs(_reading: int, talking: int) -> None:
        os.close(talking)
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        child.run_forked(hangs, started + 0.3, most=100)
    assert time.monotonic() - started < 30


def test_one_that_writes_faster_than_its_parent_reads_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pipe has data whenever the parent looks, so that no poll ever times out."""
    reads = 0
    read = os.read

    def slow_read(descriptor: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 50, "still reading after the deadline"
        piece = read(descriptor, length)
        time.sleep(0.1)
        return piece

    def writes(_reading: int, talking: int) -> None:
        while True:
            os.write(talking, BIG)

    monkeypatch.setattr(os, "read", slow_read)
    with pytest.raises(TimeoutError):
        child.run_forked(writes, time.monotonic() + 0.5, most=100)


def undoes(undo: Callable[[int], None]) -> Callable[[int, int], None]:
    """Undo something on SIGTERM, also if that comes before the handler is there."""

    def become(_reading: int, talking: int) -> None:
        def end(*_: object) -> None:
            undo(talking)
            os._exit(0)

        signal.signal(signal.SIGTERM, end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        time.sleep(60)

    return become


@pytest.fixture
def sigterm_waits() -> Iterator[None]:
    """Block SIGTERM, in children too, so that it waits until they unblock it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.mark.usefixtures("sigterm_waits")
def test_one_that_writes_while_it_undoes_its_work_has_its_whole_grace_period(
    tmp_path: Path,
) -> None:
    def undo(talking: int) -> None:
        os.write(talking, BIG)
        (tmp_path / "undone").touch()

    with pytest.raises(TimeoutError):
        child.run_forked(undoes(undo), time.monotonic() + 0.5, most=100, grace=20)
    assert (tmp_path / "undone").exists()


@pytest.mark.usefixtures("sigterm_waits")
def test_one_may_undo_what_it_did_before_it_is_killed(tmp_path: Path) -> None:
    def undo(_talking: int) -> None:
        (tmp_path / "undone").touch()

    with pytest.raises(TimeoutError):
        child.run_forked(undoes(undo), time.monotonic() + 0.5, most=100, grace=20)
    assert (tmp_path / "undone").exists()


def test_an_interrupted_parent_leaves_no_child() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            child.run_forked(lambda *_: time.sleep(60), soon(), most=100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("start", "run"),
    [
        ("fork", lambda: child.run_forked(lambda *_: time.sleep(60), soon(), most=9)),
        ("posix_spawn", lambda: child.run_program(["/bin/sleep", "60"], {}, soon(), most=9)),
    ],
)
def test_parent_interrupted_while_it_creates_the_child_leaves_no_child(
    monkeypatch: pytest.MonkeyPatch, start: str, run: Callable[[], object]
) -> None:
    """runc does not reap a process that its hook leaves, and waits for its PID namespace for ever."""
    create = getattr(os, start)

    def create_and_signal(*arguments: object, **options: object) -> int:
        process: int = create(*arguments, **options)
        if process:
            # To this thread: the test's process has further threads if it ran tests with gRPC.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return process

    monkeypatch.setattr(os, start, create_and_signal)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_child_has_the_signal_mask_of_its_parent() -> None:
    def report(reading: int, talking: int) -> None:
        says(Path("/proc/self/status").read_bytes())(reading, talking)

    mask = signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1])
    try:
        _, of_fork = child.run_forked(report, soon(), most=8192)
        command = ["/bin/cp", "/proc/self/status", "/dev/stderr"]
        _, of_program = child.run_program(command, {}, soon(), most=8192)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for status in of_fork, of_program:
        assert f"SigBlk:\t{1 << signal.SIGUSR1 - 1:016x}\n" in status


def test_fork_that_fails_leaves_signals_and_descriptors_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fail)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(BlockingIOError):
        child.run_forked(says(b""), soon(), most=9)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_one_that_returns_or_fails_does_not_go_on_as_the_parent() -> None:
    def fails(_reading: int, _talking: int) -> None:
        os.close(2)
        raise ValueError

    for become in (lambda *_: None, fails):
        assert child.run_forked(become, soon(), most=100) == (child.NOT_STARTED, "")


def test_a_signal_is_a_negative_status() -> None:
    assert child.run_forked(lambda *_: os.kill(os.getpid(), 9), soon(), most=9) == (-9, "")


def test_the_kernel_may_reap_children_by_itself() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert child.run_forked(says(b"x", 3), soon(), most=9) == (None, "x")
    finally:
        signal.signal(signal.SIGCHLD, before)
