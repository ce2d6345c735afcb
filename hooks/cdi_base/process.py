# SPDX-License-Identifier: Apache-2.0
"""The process a hook is: nothing of the image or of the caller reaches into it; it ends in time.

`hooks/README.md` has the rules, and what each is for.
"""

from __future__ import annotations

# `signal` is this module and an `enum` that costs 3 ms.
import _signal  # type: ignore[import-not-found]
import os
import resource
import sys
import time

from cdi_base import HOOK
from cdi_base.errors import HookError, shown, with_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

ALLOWED_ENVIRONMENT = frozenset(
    {"PATH", "LC_ALL", "LC_CTYPE", "TZ"}
    | {"NVIDIA_CTK_DEBUG", "NVIDIA_CDI_DEBUG", "NVIDIA_CTK_QUIET", "NVIDIA_CDI_QUIET"}
)
"""What a spec of ours gives its hooks, what Python adds (PEP 538), and what nvidia-ctk's give."""

OF_THE_LOADER = ("LD_", "GCONV_PATH", "LOCPATH", "GLIBC_TUNABLES", "MALLOC_", "PYTHON")
"""How the names of variables begin by which an image gets its code into a process."""

SECONDS = 10
"""For the whole hook; the `timeout` in the spec (30) is the runtime's last resort."""

MAX_OUTPUT = 8192
MAX_MEMORY = 512 << 20
MAX_INHERITED_DESCRIPTOR = 65_536

_ENDINGS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
"""The first, before all else: until then it raises Python's own KeyboardInterrupt."""

_left_to_say = MAX_OUTPUT
_name = HOOK


def say(line: str, code: str = "") -> None:
    """One line for the operator, on stderr; runc shows it if the hook fails, crun drops it.

    Args:
        line: what is the case.
        code: of the table of findings; empty for what is no finding, but told with `--debug`.
    """
    global _left_to_say  # noqa: PLW0603  (a process has one stderr)
    line = with_code(line, code) if code else line
    text = f"{_name}: {line}\n".encode("utf-8", "backslashreplace")[:_left_to_say]
    _left_to_say -= len(text)
    try:
        os.write(2, text)
    except OSError:
        # A closed stderr is no reason to stop a container.
        return


def isolate(*, any_environment: bool = False) -> int | None:
    """Make the process a clean one; returns an `O_PATH` descriptor of where it was started.

    Args:
        any_environment: whether a spec without `env` is forgiven, as long as the environment holds
            nothing of the loader's. nvidia-ctk before 1.17.8 wrote such specs; crun then hands on
            its own environment.

    Raises:
        HookError: the environment is not the one a spec of ours gives. An image's `LD_PRELOAD` has
            then run already; the operator learns of it.
    """
    begin(HOOK)
    for name in os.environ:
        if name in ALLOWED_ENVIRONMENT:
            continue
        if not any_environment or name.startswith(OF_THE_LOADER):
            raise HookError(
                f"{shown(name)} in the environment: the spec must give its hooks an 'env'",
                code="CDG-K003",
            )
    leave_the_callers()
    limit(resource.RLIMIT_AS, MAX_MEMORY)
    try:
        started_in = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        started_in = None
    os.chdir("/")
    return started_in


def begin(name: str) -> None:
    """Have every fault end in one line under this name, and a signal or the deadline in a fault."""
    global _name  # noqa: PLW0603  (a process has one name)
    _name = name
    sys.excepthook = _last_words
    for number in (*_ENDINGS, _signal.SIGALRM):
        _signal.signal(number, _interrupted)
    # crun (1.8) starts hooks with its own mask, in which all of them are blocked.
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    wake_after(SECONDS)


def wake_after(seconds: int) -> None:
    """Set the deadline anew: a second later than the steps would notice it themselves."""
    _signal.alarm(seconds + 1)


class Bounds:
    """The deadline, and the limit on memory, for a part of a process that then becomes another."""

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
    """Neither deadline nor limit on memory: another program works, and has its own."""

    __slots__ = ("_left", "_memory")

    def __enter__(self) -> None:
        self._left = _signal.alarm(0)
        self._memory = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (self._memory[1], self._memory[1]))

    def __exit__(self, *_fault: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._memory)
        _signal.alarm(self._left)


def leave_the_callers() -> None:
    """Keep neither the caller's environment nor its descriptors; leave no core either."""
    os.environ.clear()
    os.umask(0o022)
    os.closerange(3, MAX_INHERITED_DESCRIPTOR)
    limit(resource.RLIMIT_CORE, 0)


def limit(kind: int, most: int) -> None:
    """Lower a resource limit for good; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(kind, (most, most))


def default_signals() -> None:
    """For a child: what ends a program ends it; no handler of ours runs in it."""
    for number in (*_ENDINGS, _signal.SIGALRM, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_DFL)


def deadline() -> float:
    """When all must be done, on the clock of `time.monotonic`."""
    return time.monotonic() + SECONDS


def seconds_left(until: float) -> float:
    """How long there is until a deadline; never negative."""
    return max(0.0, until - time.monotonic())


class InterruptedHookError(HookError):
    """A signal, or the deadline; raised wherever the hook is, so that nothing half-made stays."""

    code = "CDG-X002"

    def __init__(self, number: int) -> None:
        what = f"not done after {SECONDS} s" if number == _signal.SIGALRM else f"signal {number}"
        super().__init__(what, code="CDG-X005" if number == _signal.SIGALRM else "")
        self.status = 1 if number == _signal.SIGALRM else 128 + number


def _interrupted(number: int, _frame: object) -> None:
    # Once is enough: a second one must not cut off the cleaning up.
    for other in _ENDINGS:
        _signal.signal(other, _signal.SIG_IGN)
    raise InterruptedHookError(number)


def _last_words(
    kind: type[BaseException], fault: BaseException, _traceback: TracebackType | None
) -> None:
    """A fault of ours in one line: a traceback would open source files by their path."""
    say(f"internal error, please report it: {kind.__name__}: {shown(str(fault))}", "CDG-X001")
    os._exit(1)
