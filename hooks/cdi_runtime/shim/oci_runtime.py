# SPDX-License-Identifier: Apache-2.0
"""The low-level runtime, runc or crun: found, and become."""

from __future__ import annotations

# `signal` is this module and an `enum` that costs 3 ms.
import _signal  # type: ignore[import-not-found]
import os
import stat
import sys

from cdi_base.errors import HookError, shown
from cdi_base.files import read_beginning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn  # noqa: TID251

RUNTIMES = ("runc", "crun")

TOLD = "CDI_GEN_LOW_LEVEL_RUNTIME"
"""The variable by which a launcher of `cdi-gen engine configure` says what the engine would have
used; it is the engine's environment, and no container's."""

DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Besides those of PATH: services have short ones."""

_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)
_COERCED = b"LC_CTYPE"
"""Python sets this one in its own environment where no locale is said (PEP 538)."""


class NoRuntimeError(HookError):
    """There is no low-level runtime, or the one there is is the shim itself."""

    code = "CDG-R601"


def find(names: Iterable[str] = RUNTIMES) -> str:
    """The path of the first that is there: a name is searched, a path is taken as it is.

    Where the engine's launcher names one it is that, or none: what one runtime has made no other
    can end.

    Raises:
        NoRuntimeError: there is none. One that leads back to this program is none: it would start
            itself for ever.
    """
    told = os.environ.get(TOLD)
    names = (told,) if told else tuple(names)
    path = os.environ.get("PATH", "").split(":")
    itself = _identity(sys.argv[0])
    loops = []
    for name in names:
        places = [name] if "/" in name else [f"{each}/{name}" for each in (*path, *DIRECTORIES)]
        for place in places:
            if not place.startswith("/") or not _is_program(place):
                continue
            if itself is None or _identity(place) != itself:
                return place
            loops.append(place)
    looked_for = ", ".join(shown(name)[1:-1] for name in names) or "none"
    if loops:
        raise NoRuntimeError(
            f"{shown(loops[0])} is a link to cdi-gen-runtime itself, and no other low-level "
            f"runtime is there; looked for: {looked_for}. Name one by its path in 'runtimes' of "
            "config.toml",
            code="CDG-R602",
        )
    if told:
        raise NoRuntimeError(
            f"{shown(told)} is not there, which {TOLD} names: run 'cdi-gen engine configure' again",
            code="CDG-R603",
        )
    raise NoRuntimeError(
        f"no low-level runtime is there; looked for: {looked_for}. Install runc or crun, or name "
        "one by its path in 'runtimes' of config.toml"
    )


def become(program: str, words: Sequence[str]) -> NoReturn:
    """Be replaced by the runtime: same arguments, environment, descriptors, process.

    Raises:
        NoRuntimeError: the kernel will not.
    """
    for number in _IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)
    environment = dict(os.environb)
    environment.pop(TOLD.encode(), None)
    if _COERCED in environment and not _was_given(_COERCED):
        del environment[_COERCED]
    try:
        # crun asks its own name what it is (krun, crun-wasm): not the shim's.
        os.execve(program, [program, *words], environment)  # noqa: S606
    except OSError as error:
        raise NoRuntimeError(
            f"cannot start {shown(program)}: {error.strerror}", code="CDG-R603"
        ) from None


def _was_given(name: bytes) -> bool:
    """Whether a variable was there before the interpreter was; in doubt it was."""
    try:
        given = read_beginning("/proc/self/environ", 8 << 20)  # Linux allows 6 MiB (fs/exec.c)
    except OSError:
        return True
    return any(each.startswith(name + b"=") for each in given.split(b"\0"))


def _is_program(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)
    except (OSError, ValueError):
        return False


def _identity(path: str) -> tuple[int, int] | None:
    """What a path leads to, whatever the links on the way."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
