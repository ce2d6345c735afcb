# SPDX-License-Identifier: Apache-2.0
"""Hardens the hook process: clean environment, closed descriptors, resource limits, a deadline.

`hooks/README.md` has the rules and their reasons.
"""

from __future__ import annotations

# `_signal` is what `signal` wraps; `signal` itself costs 3 ms, for its enums.
import _signal  # type: ignore[import-not-found]
import os
import resource
import sys
import time

from cdi_base import HOOK
from cdi_base.errors import HookError, printable, shown, with_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from types import FrameType, TracebackType

ALLOWED_ENVIRONMENT = frozenset(
    {"PATH", "LC_ALL", "LC_CTYPE", "TZ"}
    | {"NVIDIA_CTK_DEBUG", "NVIDIA_CDI_DEBUG", "NVIDIA_CTK_QUIET", "NVIDIA_CDI_QUIET"}
)
"""Variables that cdi-gen's and nvidia-ctk's specs give hooks, and that Python adds (PEP 538)."""

DANGEROUS_PREFIXES = ("LD_", "GCONV_PATH", "LOCPATH", "GLIBC_TUNABLES", "MALLOC_", "PYTHON")
"""Prefixes of the variables by which an image gets its code into a process."""

SECONDS = 10
"""Time limit of the whole hook; the `timeout` of the spec, 30 seconds, is the runtime's own."""

MAX_OUTPUT = 8192
MAX_MEMORY = 512 << 20
MAX_INHERITED_DESCRIPTOR = 65_536

_TERMINATING_SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
"""SIGINT is handled first: until then it raises Python's own KeyboardInterrupt."""

_output_left = MAX_OUTPUT
_name = HOOK


def say(line: str, code: str = "") -> None:
    """Write one line to stderr; runc shows the line if the hook fails, crun drops it.

    Args:
        line: the message.
        code: of the table of findings; empty for a line of `--debug`.
    """
    global _output_left  # noqa: PLW0603  (a process has one stderr)
    line = with_code(line, code) if code else line
    text = f"{_name}: {printable(line)}\n".encode()[:_output_left]
    _output_left -= len(text)
    try:
        os.write(2, text)
    except OSError:
        # A closed stderr is no reason to stop a container.
        return


def isolate(*, any_environment: bool = False) -> int | None:
    """Clean the process; return an `O_PATH` descriptor of the directory that it was started in.

    Args:
        any_environment: whether further variables are accepted, except those of
            `DANGEROUS_PREFIXES`. nvidia-ctk before 1.17.8 wrote hooks without `env`; crun passes
            its own environment to such hooks.

    Raises:
        HookError: the environment has a variable that no spec gives a hook. Code of the image's
            `LD_PRELOAD` has then run already; the error makes the administrator aware of it.
    """
    begin(HOOK)
    for name in os.environ:
        if name in ALLOWED_ENVIRONMENT:
            continue
        if not any_environment or name.startswith(DANGEROUS_PREFIXES):
            raise HookError(
                f"{shown(name)} in the environment: the spec must give its hooks an 'env'",
                code="CDG-K003",
            )
    drop_inherited_state()
    limit(resource.RLIMIT_AS, MAX_MEMORY)
    try:
        started_in = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        started_in = None
    os.chdir("/")
    return started_in


def begin(name: str) -> None:
    """Set the name in front of every message, and handlers for faults, signals and the deadline."""
    global _name  # noqa: PLW0603  (a process has one name)
    _name = name
    sys.excepthook = _print_internal_error
    sys.unraisablehook = _deliver_again
    for number in (*_TERMINATING_SIGNALS, _signal.SIGALRM):
        _signal.signal(number, _interrupted)
    # crun 1.8 starts hooks with its own signal mask, which blocks all of these signals.
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    wake_after(SECONDS)


def wake_after(seconds: int) -> None:
    """Set the alarm to one second after the deadline; the steps check the deadline themselves."""
    _signal.alarm(seconds + 1)


class Bounds:
    """A deadline and a limit on memory until the process execs another program."""

    __slots__ = ("_handler", "_mask", "_memory")

    def __enter__(self) -> None:
        self._memory = resource.getrlimit(resource.RLIMIT_AS)
        soft, hard = self._memory
        if soft == resource.RLIM_INFINITY or soft > MAX_MEMORY:
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, hard))
        self._handler = _signal.signal(_signal.SIGALRM, _interrupted)
        self._mask = _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGALRM,))
        wake_after(SECONDS)

    def __exit__(self, *_fault: object) -> None:
        _signal.alarm(0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
        _signal.signal(_signal.SIGALRM, self._handler)
        resource.setrlimit(resource.RLIMIT_AS, self._memory)


class Unbounded:
    """Suspends the deadline and the limit on memory while a child program runs under its own."""

    __slots__ = ("_memory", "_seconds_left")

    def __enter__(self) -> None:
        self._seconds_left = _signal.alarm(0)
        self._memory = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (self._memory[1], self._memory[1]))

    def __exit__(self, *_fault: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._memory)
        _signal.alarm(self._seconds_left)


def drop_inherited_state() -> None:
    """Clear the environment, close inherited descriptors, and disable core dumps."""
    os.environ.clear()
    os.umask(0o022)
    os.closerange(3, MAX_INHERITED_DESCRIPTOR)
    limit(resource.RLIMIT_CORE, 0)


def limit(kind: int, most: int) -> None:
    """Lower a resource limit, soft and hard; a limit that is lower already is kept."""
    hard = resource.getrlimit(kind)[1]
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(kind, (most, most))


def default_signals() -> None:
    """Reset the signal handlers in a child, so that no handler of this module runs there."""
    for number in (*_TERMINATING_SIGNALS, _signal.SIGALRM, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_DFL)


def deadline() -> float:
    """Return the deadline of the hook, on the clock of `time.monotonic`."""
    return time.monotonic() + SECONDS


def seconds_left(until: float) -> float:
    """Return the seconds until a deadline; never negative."""
    return max(0.0, until - time.monotonic())


class InterruptedHookError(HookError):
    """A signal or the deadline; raised as an exception so that temporary files are removed."""

    code = "CDG-X002"

    def __init__(self, number: int) -> None:
        is_deadline = number == _signal.SIGALRM
        message = f"not done after {SECONDS} s" if is_deadline else f"signal {number}"
        super().__init__(message, code="CDG-X005" if is_deadline else "")
        self.number = number
        self.status = 1 if is_deadline else 128 + number


def _interrupted(number: int, _frame: object) -> None:
    # A second signal must not interrupt the clean-up.
    for other in _TERMINATING_SIGNALS:
        _signal.signal(other, _signal.SIG_IGN)
    raise InterruptedHookError(number)


def _deliver_again(ignored: UnraisableHookArgs) -> None:
    """Deliver a signal a second time whose exception Python has ignored.

    Python ignores exceptions in finalizers and in callbacks of weak references; `import` has some.
    Other exceptions there are printed in one line.
    """
    fault = ignored.exc_value
    if isinstance(fault, InterruptedHookError):
        number = fault.number

        def interrupt(_alarm: int, frame: FrameType | None) -> None:
            while frame is not None:
                if frame.f_code is _deliver_again.__code__:
                    # On a busy machine the time is over before Python has returned from here.
                    _signal.setitimer(_signal.ITIMER_REAL, 0.001)
                    return
                frame = frame.f_back
            _interrupted(number, None)

        _signal.signal(_signal.SIGALRM, interrupt)
        _signal.setitimer(_signal.ITIMER_REAL, 0.001)
    else:
        name = ignored.exc_type.__name__
        say(f"internal error, please report it: {name}: {shown(str(fault))}", "CDG-X001")


def _print_internal_error(
    kind: type[BaseException], fault: BaseException, _traceback: TracebackType | None
) -> None:
    """Print an unexpected exception in one line: a traceback would open source files by path."""
    say(f"internal error, please report it: {kind.__name__}: {shown(str(fault))}", "CDG-X001")
    os._exit(1)
