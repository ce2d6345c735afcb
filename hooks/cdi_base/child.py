# SPDX-License-Identifier: Apache-2.0
"""Runs a child process until its end or a deadline, writes its input, and reads its output.

The output is read to its end, so that the child never blocks on a full pipe; a limited part is
kept. A child that does not end in time, or whose parent is interrupted, is killed and reaped.
Signals are blocked while the child is created, so that a signal handler that raises an exception
cannot leave a child that nobody waits for. runc never reaps such a child, and waits for
ever for the end of its PID namespace.
"""

from __future__ import annotations

# `_signal` is what `signal` wraps; `signal` itself costs 3 ms, for its enums.
import _signal  # type: ignore[import-not-found]
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import NoReturn, Optional  # noqa: TID251  (never imported when it runs)

    Result = tuple[Optional[int], str]
    """Exit status, negative for a signal, and the output of the child. The status is None where the
    kernel reaps the children of this process by itself, because the engine ignores SIGCHLD."""

NOT_STARTED = 127
"""Exit status of a child that could not exec its program; shells use the same number."""

_SIGTERM, _SIGKILL = 15, 9
_PIECE = 1 << 16


def run_forked(
    become: Callable[[int, int], object],
    until: float,
    *,
    most: int,
    content: bytes = b"",
    grace: float = 0.0,
) -> Result:
    """Run a function in a forked child.

    Args:
        become: the function; its arguments are a descriptor for its input and one for its output.
            It exits, or execs a program. The child ends when it returns.
        until: the deadline, on the clock of `time.monotonic`.
        most: the number of bytes of output that are kept, from the beginning.
        content: the input.
        grace: the seconds between SIGTERM and SIGKILL.

    Raises:
        TimeoutError: the child did not end in time.
    """
    pipes = _Pipes(content, most)
    mask = _block_signals()
    try:
        child = os.fork()
    except OSError:
        pipes.close()
        _set_mask(mask)
        raise
    if child == 0:
        _run_in_child(pipes, become, mask)
    return pipes.supervise(child, until, grace, mask)


def run_program(
    words: Sequence[str], environment: Mapping[str, str], until: float, *, most: int
) -> Result:
    """Run a program without input; its output is its standard error, of which the end is kept.

    Args:
        words: the path of the program and its arguments.
        environment: the whole environment of the program.
        until: the deadline, on the clock of `time.monotonic`.
        most: the number of bytes of output that are kept.

    Raises:
        OSError: the program cannot be started.
        TimeoutError: the program did not end in time.
    """
    pipes = _Pipes(b"", most, keep_last=True)
    mask = _block_signals()
    try:
        child = os.posix_spawn(
            words[0],
            list(words),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, pipes.child_output, 2),
            ],
            setsigmask=mask,
        )
    except OSError:
        pipes.close()
        _set_mask(mask)
        raise
    return pipes.supervise(child, until, 0.0, mask)


def _block_signals() -> Iterable[int]:
    """Block all signals, and return the mask to restore."""
    mask: Iterable[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    return mask


def _set_mask(mask: Iterable[int]) -> None:
    """Set the mask of blocked signals. The handler of a pending signal runs in this call."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def _run_in_child(
    pipes: _Pipes, become: Callable[[int, int], object], mask: Iterable[int]
) -> NoReturn:
    try:
        _set_mask(mask)
        os.close(pipes.to_child)
        os.close(pipes.from_child)
        become(pipes.child_input, pipes.child_output)
    finally:
        os._exit(NOT_STARTED)


class _Pipes:
    """A pipe to a child and a pipe from it."""

    def __init__(self, content: bytes, most: int, *, keep_last: bool = False) -> None:
        self.child_input, self.to_child = os.pipe()
        self.from_child, self.child_output = os.pipe()
        os.set_blocking(self.to_child, False)
        self._rest = memoryview(content)
        self._most = most
        self._keep_last = keep_last

    def close(self) -> None:
        for descriptor in (self.child_input, self.to_child, self.from_child, self.child_output):
            os.close(descriptor)

    def supervise(self, child: int, until: float, grace: float, mask: Iterable[int]) -> Result:
        """Restore the signal mask; exchange data with the child until its end or the deadline."""
        os.close(self.child_input)
        os.close(self.child_output)
        try:
            _set_mask(mask)
            output = self._communicate(until)
            return _wait(child, until), output
        except BaseException:
            self._kill(child, grace)
            raise
        finally:
            os.close(self.from_child)
            self._finish_writing()

    def _communicate(self, until: float) -> str:
        """Write the input, and read the output until the child closes its end.

        The deadline is compared each time: a child that always has more to say never lets the poll
        time out.
        """
        output = b""
        ready = select.poll()
        ready.register(self.from_child, select.POLLIN)
        if self._rest:
            ready.register(self.to_child, select.POLLOUT)
        else:
            self._finish_writing()
        while (left := until - time.monotonic()) > 0:
            ready_descriptors = dict(ready.poll(left * 1000))
            if self.to_child in ready_descriptors:
                self._write()
                if not self._rest:
                    ready.unregister(self.to_child)
                    self._finish_writing()
            if self.from_child in ready_descriptors:
                piece = os.read(self.from_child, _PIECE)
                if not piece:
                    return output.decode("utf-8", "backslashreplace").strip()
                output += piece
                output = output[-self._most :] if self._keep_last else output[: self._most]
        raise TimeoutError

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self.to_child, self._rest) :]
        except BrokenPipeError:
            self._rest = self._rest[:0]  # the child closed its input

    def _finish_writing(self) -> None:
        if self.to_child >= 0:
            os.close(self.to_child)
            self.to_child = -1

    def _drain(self, until: float) -> None:
        """Read and drop the output until the child closes its end, or until the deadline."""
        ready = select.poll()
        ready.register(self.from_child, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            if ready.poll(left * 1000) and not os.read(self.from_child, _PIECE):
                return

    def _kill(self, child: int, grace: float) -> None:
        """Kill the child, unless it was reaped already: a signal may come right after the wait."""
        try:
            if grace:
                os.kill(child, _SIGTERM)
                self._drain(time.monotonic() + grace)
            os.kill(child, _SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            return


def _wait(child: int, until: float) -> int | None:
    """Return the exit status of a child that closed its output; it usually ends at once.

    Raises:
        TimeoutError: the child did not end in time.
    """
    pause = 0.0002
    try:
        while True:
            reaped, status = os.waitpid(child, os.WNOHANG)
            if reaped:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= until:
                raise TimeoutError
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
    except ChildProcessError:
        return None
