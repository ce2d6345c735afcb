# SPDX-License-Identifier: Apache-2.0
"""Runs a child process to its end or to a deadline, gives it input, and takes what it says.

What the child says is read to its end, so that it never waits for a reader, and kept up to a limit.
A child that is not done in time, or whose parent is interrupted, is killed and waited for.
"""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, Optional  # noqa: TID251  (never imported when it runs)

    Ended = tuple[Optional[int], str]
    """Exit status, negative for a signal, and what the child said. The status is None where the
    kernel reaps the children of this process by itself, because the engine ignores SIGCHLD."""

NOT_STARTED = 127
"""Exit status of a child that did not become what it should, as of a shell's."""

_SIGTERM, _SIGKILL = 15, 9
_PIECE = 1 << 16


def run_forked(
    become: Callable[[int, int], object],
    until: float,
    *,
    most: int,
    given: bytes = b"",
    patience: float = 0.0,
) -> Ended:
    """Run a function in a forked child.

    Args:
        become: gets a descriptor to read its input from and one to say something on; it exits, or
            becomes a program. The child ends when it returns.
        until: the deadline, on the clock of `time.monotonic`.
        most: bytes of what it says that are kept, the first.
        given: its input.
        patience: seconds that the child gets to end by itself, after a SIGTERM.

    Raises:
        TimeoutError: it was not done in time.
    """
    pipes = _Pipes(given, most)
    child = os.fork()
    if child == 0:
        _be_the_child(pipes, become)
    return pipes.supervise(child, until, patience)


def run_program(
    words: Sequence[str], environment: Mapping[str, str], until: float, *, most: int
) -> Ended:
    """Run a program without input; what it says is its standard error, of which the last is kept.

    Args:
        words: its path and arguments.
        environment: all of its environment.
        until: the deadline, on the clock of `time.monotonic`.
        most: bytes that are kept.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it was not done in time.
    """
    pipes = _Pipes(b"", most, keep_last=True)
    try:
        child = os.posix_spawn(
            words[0],
            list(words),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, pipes.talking, 2),
            ],
        )
    except OSError:
        pipes.close()
        raise
    return pipes.supervise(child, until, 0.0)


def _be_the_child(pipes: _Pipes, become: Callable[[int, int], object]) -> NoReturn:
    try:
        os.close(pipes.writing)
        os.close(pipes.hearing)
        become(pipes.reading, pipes.talking)
    finally:
        os._exit(NOT_STARTED)


class _Pipes:
    """A pipe to a child and a pipe from it."""

    def __init__(self, given: bytes, most: int, *, keep_last: bool = False) -> None:
        self.reading, self.writing = os.pipe()
        self.hearing, self.talking = os.pipe()
        os.set_blocking(self.writing, False)
        self._rest = memoryview(given)
        self._most = most
        self._keep_last = keep_last

    def close(self) -> None:
        for descriptor in (self.reading, self.writing, self.hearing, self.talking):
            os.close(descriptor)

    def supervise(self, child: int, until: float, patience: float) -> Ended:
        """Stay with the child until its end or the deadline."""
        os.close(self.reading)
        os.close(self.talking)
        try:
            said = self._converse(until)
            return _exit_status(child), said
        except BaseException:
            self._end(child, patience)
            raise
        finally:
            os.close(self.hearing)
            self._finish_writing()

    def _converse(self, until: float) -> str:
        """Give the input, and take what the child says until it closes its end."""
        said = b""
        ready = select.poll()
        ready.register(self.hearing, select.POLLIN)
        if self._rest:
            ready.register(self.writing, select.POLLOUT)
        else:
            self._finish_writing()
        while events := ready.poll(max(0.0, until - time.monotonic()) * 1000):
            happened = dict(events)
            if self.writing in happened:
                self._write()
                if not self._rest:
                    ready.unregister(self.writing)
                    self._finish_writing()
            if self.hearing in happened:
                piece = os.read(self.hearing, _PIECE)
                if not piece:
                    return said.decode("utf-8", "backslashreplace").strip()
                said += piece
                said = said[-self._most :] if self._keep_last else said[: self._most]
        raise TimeoutError

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self.writing, self._rest) :]
        except BrokenPipeError:
            self._rest = self._rest[:0]  # the child does not read it

    def _finish_writing(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def _end(self, child: int, patience: float) -> None:
        """Kill the child; a signal may have come when it had just been waited for."""
        try:
            if patience:
                os.kill(child, _SIGTERM)
                ready = select.poll()
                ready.register(self.hearing, select.POLLIN)
                ready.poll(patience * 1000)
            os.kill(child, _SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            return


def _exit_status(child: int) -> int | None:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except ChildProcessError:
        return None
