# SPDX-License-Identifier: Apache-2.0
"""Finds the low-level runtime, runc or crun, and replaces the shim's process by it."""

from __future__ import annotations

# `signal` imports this module, and `enum`, which takes 3 ms.
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

SELECTION = "CDI_GEN_LOW_LEVEL_RUNTIME"
"""The variable in which a launcher that `cdi-gen engine configure` wrote names the low-level
runtime that the engine would use without the shim. It is in the engine's environment, which no
container can change."""

DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Searched after those of PATH, because services often have a short PATH."""

_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)
_COERCED = b"LC_CTYPE"
"""Python sets this variable in its own environment if no locale is set (PEP 538)."""


class NoRuntimeError(HookError):
    """No low-level runtime exists, or the only candidate is the shim itself."""

    code = "CDG-R601"


def find(names: Iterable[str] = RUNTIMES) -> str:
    """Return the path of the first low-level runtime that exists.

    A launcher of an engine can select a runtime; then no other runtime is used, because only the
    runtime that created a container can delete it.

    Args:
        names: names to search in PATH, and absolute paths.

    Raises:
        NoRuntimeError: no runtime exists. A link to this program does not count: the shim would
            start itself forever.
    """
    selected = os.environ.get(SELECTION)
    names = (selected,) if selected else tuple(names)
    search_path = os.environ.get("PATH", "").split(":")
    shim = _identity(sys.argv[0])
    links_to_shim = []
    for name in names:
        candidates = (
            [name]
            if "/" in name
            else [f"{directory}/{name}" for directory in (*search_path, *DIRECTORIES)]
        )
        for candidate in candidates:
            if not candidate.startswith("/") or not _is_program(candidate):
                continue
            if shim is None or _identity(candidate) != shim:
                return candidate
            links_to_shim.append(candidate)
    searched = ", ".join(shown(name)[1:-1] for name in names) or "none"
    if links_to_shim:
        raise NoRuntimeError(
            f"{shown(links_to_shim[0])} is a link to cdi-gen-runtime itself, and no other "
            f"low-level runtime exists; searched for: {searched}. Name one by its path in "
            "'runtimes' of config.toml",
            code="CDG-R602",
        )
    if selected:
        raise NoRuntimeError(
            f"{shown(selected)}, which {SELECTION} names, does not exist or cannot be executed: "
            "run 'cdi-gen engine configure' again",
            code="CDG-R603",
        )
    raise NoRuntimeError(
        f"no low-level runtime exists; searched for: {searched}. Install runc or crun, or name "
        "one by its path in 'runtimes' of config.toml"
    )


def become(program: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the runtime, with the same arguments, environment and descriptors.

    Raises:
        NoRuntimeError: the kernel cannot execute the program.
    """
    for number in _IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)
    environment = dict(os.environb)
    environment.pop(SELECTION.encode(), None)
    if _COERCED in environment and not _was_inherited(_COERCED):
        del environment[_COERCED]
    try:
        # argv[0] is the runtime's own name: crun derives its behaviour from it (krun, crun-wasm).
        os.execve(program, [program, *arguments], environment)  # noqa: S606
    except OSError as error:
        raise NoRuntimeError(
            f"cannot start {shown(program)}: {error.strerror}", code="CDG-R603"
        ) from None


def _was_inherited(name: bytes) -> bool:
    """Whether the process was started with this variable; True if /proc cannot be read."""
    try:
        initial = read_beginning("/proc/self/environ", 8 << 20)  # Linux allows 6 MiB (fs/exec.c)
    except OSError:
        return True
    return any(entry.startswith(name + b"=") for entry in initial.split(b"\0"))


def _is_program(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)
    except (OSError, ValueError):
        return False


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of the file that a path leads to; None if it leads to none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
