# SPDX-License-Identifier: Apache-2.0
"""The hook program: where it is, and whether only root could have put it there.

A spec that names a hook makes every container engine run that file as root. So the file, its
interpreter and every directory above them must belong to root and be writable by nobody else.
"""

from __future__ import annotations

import os
import stat

from cdi_gen.host.roots import Root
from cdi_gen.inventory import HookProgram
from cdi_gen.paths import HostPath

DIRECTORIES = ("/usr/libexec/cdi-gen", "/usr/lib/cdi-gen", "/usr/local/libexec/cdi-gen")
NAME = "cdi-gen-hook"


def find(root: Root, path: str | None) -> HookProgram | None:
    """The hook at ``path``, or the installed one; None where none is installed."""
    candidates = [path] if path else [f"{directory}/{NAME}" for directory in DIRECTORIES]
    for candidate in candidates:
        try:
            resolved = root.resolve(candidate)
        except OSError:
            continue
        return HookProgram(path=HostPath(candidate), unsafe=_unsafe(root, candidate, resolved))
    if path:
        return HookProgram(path=HostPath(path), unsafe="there is no such file")
    return None


def _unsafe(root: Root, path: str, resolved: str) -> str | None:
    """The first reason not to trust the program, its package or its interpreter."""
    for name in dict.fromkeys((path, resolved)):
        reason = _writable_by_others(root, name)
        if reason:
            return reason
    mode = root.lstat(resolved).st_mode
    if not stat.S_ISREG(mode):
        return f"{resolved} is not a regular file"
    if not mode & stat.S_IXUSR:
        return f"{resolved} is not executable"
    package = f"{resolved.rpartition('/')[0]}/cdi_hook"
    for name in (package, *_interpreter(root, resolved)):
        try:
            target = root.resolve(name)
        except OSError:
            if name == package:
                continue  # the peer's hook is one file
            return f"{resolved} is run by {name}, which is not there"
        reason = _writable_by_others(root, target)
        if reason:
            return reason
    for entry in root.entries(package):
        reason = _writable_by_others(root, f"{package}/{entry.name}")
        if reason:
            return reason
    return None


def _interpreter(root: Root, path: str) -> tuple[str, ...]:
    line = root.read_text(path, limit=256).partition("\n")[0]
    if not line.startswith("#!"):
        return ()
    words = line[2:].split()
    return (words[0],) if words and words[0].startswith("/") else ("(no absolute interpreter)",)


def _writable_by_others(root: Root, path: str) -> str | None:
    """Why somebody other than root could replace ``path``: it or a directory above it."""
    while True:
        found = os.lstat(root.open_path(path)) if path == "/" else root.lstat(path)
        where = root.host_path(path)
        if found.st_uid != 0:
            return f"{where} belongs to uid {found.st_uid}, not to root"
        if not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022:
            return f"{where} is writable by others than root (mode {found.st_mode & 0o7777:04o})"
        if path == "/":
            return None
        path = path.rpartition("/")[0] or "/"
