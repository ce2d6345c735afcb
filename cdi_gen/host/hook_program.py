# SPDX-License-Identifier: Apache-2.0
"""Finds the hook program, and checks that only root can change it.

A spec that names a hook makes every container engine run that file as root. So the file, its
interpreter and every directory above them must belong to root, and only root may have permission
to write to them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from cdi_base import HOOK, nvidia, trust
from cdi_gen.host.roots import Root
from cdi_gen.inventory import HookProgram
from cdi_gen.paths import HostPath, parent

DIRECTORIES = ("/usr/libexec/cdi-gen", "/usr/lib/cdi-gen", "/usr/local/libexec/cdi-gen")
PACKAGES = ("cdi_base", "cdi_hook", "cdi_runtime")
"""Packages that the programs import from their own directory."""
LAUNCHERS = (HOOK, nvidia.HOOK)
"""Scripts that the interpreter of a bundle runs; it is a binary in the same directory."""
COMPILED = ".pyc"
"""The ending of the files with the bytecode of all modules of a program."""


def find(root: Root, path: str | None) -> HookProgram | None:
    """Return the hook program at ``path``, or the installed one; None if none is installed."""
    candidates = [path] if path else [f"{directory}/{HOOK}" for directory in DIRECTORIES]
    for candidate in candidates:
        try:
            resolved = root.resolve(candidate)
        except OSError:
            continue
        return HookProgram(path=HostPath(candidate), unsafe=_unsafe(root, candidate, resolved))
    if path:
        return HookProgram(path=HostPath(path), unsafe="the file does not exist")
    return None


def _unsafe(root: Root, path: str, resolved: str) -> str | None:
    """Return the first reason not to trust the program, its modules or its interpreter."""
    mode = root.lstat(resolved).st_mode
    if not stat.S_ISREG(mode):
        return f"{resolved} is not a regular file"
    if not mode & stat.S_IXUSR:
        return f"{resolved} is not executable"
    try:
        directory = parent(resolved)
        names = {entry.name for entry in root.entries(directory)}
        packages = [f"{directory}/{name}" for name in PACKAGES if name in names]
        files = [
            f"{directory}/{name}"
            for name in sorted(names)
            if name in LAUNCHERS or name.endswith(COMPILED)
        ]
        interpreter = _interpreter(root, resolved)
        modules = [name for package in packages for name in (package, *_files(root, package))]
        for name in (path, *interpreter, *files, *modules):
            reason = trust.fault(name, seen_from=root.open_path(""))
            if reason:
                return reason
        for name in interpreter:
            root.resolve(name)
    except OSError as error:
        return f"{resolved} needs {error.filename}: {error.strerror}"
    return None


def _files(root: Root, directory: str) -> Iterator[str]:
    """Yield every path below a directory, because Python also runs compiled files."""
    for entry in root.entries(directory):
        name = f"{directory}/{entry.name}"
        yield name
        if entry.is_dir(follow_symlinks=False):
            yield from _files(root, name)


def _interpreter(root: Root, path: str) -> tuple[str, ...]:
    """Return the programs that the kernel and env start for a script; empty for a binary."""
    line = root.read_text(path, limit=256).partition("\n")[0]
    if not line.startswith("#!"):
        return ()
    return tuple(word for word in line[2:].split() if word.startswith("/"))
