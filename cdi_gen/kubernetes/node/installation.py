# SPDX-License-Identifier: Apache-2.0
"""Installs the programs below a directory of the host, and removes them. Runs in the host's root.

    ROOT/toolkit                 a link to the installation in use
    ROOT/toolkit.cdi-gen/ID      an installation; it is complete when it has this name, and is not
                                 changed afterwards. ID is a digest of the content
    ROOT/toolkit.cdi-gen/replaced    what was at ROOT/toolkit before, put back by `remove`
    ROOT/toolkit.cdi-gen/created     the directories that did not exist before
    ROOT/toolkit.cdi-gen/restart     see `pending_restart`

A process may be killed between any two steps. `_recover` then completes or discards the step.
A container that starts during an upgrade finds the old programs or the new ones. An installation
that is not in use any more stays for some minutes, because a start that is under way goes on with
it; a later set-up removes it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from cdi_base import files, trust
from cdi_gen.engines.change import exchange
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.kubernetes.node import created_directories
from cdi_gen.kubernetes.node.created_directories import CREATED
from cdi_gen.kubernetes.node.installed_files import PROGRAMS, InstalledFile
from cdi_gen.kubernetes.node.pending_restart import RESTART
from cdi_gen.kubernetes.node.settings import STORE, store_directory, toolkit_directory
from cdi_gen.paths import base_name, join, parent
from cdi_gen.programs.install import compile_modules

REPLACED = "replaced"
PARTIAL = ".partial"
ASIDE = ".aside"
TEMPORARY = ".tmp"

RETENTION_SECONDS = 600
"""The time after which an installation that is not in use any more may be removed."""

MAX_FILE = 256 << 20
"""The largest file of a bundle: an interpreter that is linked statically."""


class TreeEntry(NamedTuple):
    """A file, directory or link of a tree."""

    path: str
    """Below the root of the tree."""
    kind: str
    """`file`, `program`, `directory` or `link`."""
    target: str = ""
    """Of a link."""


class NodeInstallationError(CdiGenError):
    """The programs cannot be installed on the host."""

    code = "CDG-N402"


def tree_entries(tree: int) -> Iterator[TreeEntry]:
    """Yield what is below the directory that a descriptor is open on, parents first.

    Raises:
        NodeInstallationError: there is a device, a pipe or a socket.
    """
    for directory, names, file_names, descriptor in os.fwalk(".", dir_fd=tree):
        names.sort()
        above = os.path.normpath(directory)
        for name in sorted((*names, *file_names)):
            path = os.path.normpath(f"{above}/{name}")
            mode = os.lstat(name, dir_fd=descriptor).st_mode
            if stat.S_ISLNK(mode):
                yield TreeEntry(path, "link", os.readlink(name, dir_fd=descriptor))
            elif stat.S_ISDIR(mode):
                yield TreeEntry(path, "directory")
            elif stat.S_ISREG(mode):
                yield TreeEntry(path, "program" if mode & 0o111 else "file")
            else:
                raise NodeInstallationError(f"the bundle has a special file, {path}")


def digest(tree: int, extra: dict[str, InstalledFile]) -> str:
    """Return the name of an installation: a digest of the tree and of the further files."""
    result = hashlib.sha256()
    for entry in tree_entries(tree):
        result.update(repr(entry).encode())
        if entry.kind in {"file", "program"}:
            result.update(hashlib.sha256(_content(tree, entry.path)).digest())
    for name, file in sorted(extra.items()):
        result.update(repr((name, file)).encode())
    return result.hexdigest()[:16]


def _content(tree: int, path: str) -> bytes:
    descriptor = files.open_regular(path, directory=tree)
    try:
        return files.content(descriptor, MAX_FILE)
    finally:
        os.close(descriptor)


def check_root(root: str) -> None:
    """Reject a directory in which programs cannot be installed.

    Raises:
        UnsafeError: an untrusted user could replace the programs.
        NodeInstallationError: nothing can be written or executed there.
    """
    try:
        fault = trust.fault(root, may_be_missing=True)
        if fault:
            raise UnsafeError(
                f"programs are not installed to {root}: {fault}",
                hint="only root may be able to change the directory and those above it, or give "
                "another one with --root",
                code="CDG-N402",
                subject=root,
            )
        existing = root
        while not os.path.exists(existing):
            existing = parent(existing)
        flags = os.statvfs(existing).f_flag
    except OSError as error:
        raise _failure(root, error) from error
    hint = (
        "give a directory with --root (ROOT) that is on a file system where root may write and "
        "execute; or --hook-free, which installs nothing"
    )
    if flags & os.ST_RDONLY:
        message = f"programs cannot be installed to {root}: the file system is read-only"
        raise NodeInstallationError(message, hint=hint, subject=root)
    if flags & os.ST_NOEXEC:
        message = f"programs at {root} could not be executed: it is mounted with noexec"
        raise NodeInstallationError(message, hint=hint, subject=root)


def install(
    root: str,
    name: str,
    tree: int,
    extra: dict[str, InstalledFile],
    python: str | None = None,
) -> bool:
    """Make an installation the one in use; return whether it is another one than before.

    Args:
        root: the directory that has, or will have, `toolkit`.
        name: the name that `digest` returned.
        tree: a descriptor of the directory to copy.
        extra: further files, by their paths in the installation.
        python: the host's interpreter, which compiles the modules; None: the tree has its own.

    Raises:
        UnsafeError, NodeInstallationError: see `check_root`.
    """
    check_root(root)
    store = store_directory(root)
    try:
        _make_store(root, store)
        _recover(store)
        target = join(store, name)
        if not os.path.isdir(target):
            _copy(tree, extra, target + PARTIAL)
            if python:
                partial = join(target + PARTIAL, PROGRAMS)
                compile_modules(partial, python, join(target, PROGRAMS))
            os.rename(target + PARTIAL, target)
            _synchronize(store)
        previous = current(root)
        _link(root, store, name)
        _synchronize(root)
        if previous not in {None, name}:
            os.utime(join(store, str(previous)))  # the time of its last use
        _remove_old(store, {name, previous, REPLACED, CREATED, RESTART})
    except OSError as error:
        raise _failure(root, error) from error
    return previous != name


def _remove_old(store: str, kept: set[str | None]) -> None:
    for name in set(os.listdir(store)) - kept:
        if time.time() - os.lstat(join(store, name)).st_mtime > RETENTION_SECONDS:
            _discard(join(store, name))


def _recover(store: str) -> None:
    """Complete or discard what a process began that was killed."""
    replaced = join(store, REPLACED)
    aside = replaced + ASIDE
    if os.path.lexists(aside) and not _is_ours(aside):
        if _is_ours(replaced):
            os.unlink(replaced)
        os.rename(aside, replaced)
    for path in (aside, replaced):
        if _is_ours(path):
            os.unlink(path)
    for name in os.listdir(store):
        if name.endswith((PARTIAL, TEMPORARY)):
            _discard(join(store, name))


def _discard(path: str) -> None:
    """Remove an entry of the store. No installation has its name while a part of it is missing."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    partial = path if path.endswith(PARTIAL) else path + PARTIAL
    os.rename(path, partial)
    shutil.rmtree(partial)


def _is_ours(path: str) -> bool:
    """Whether a path is a link to an installation."""
    try:
        return os.readlink(path).rpartition("/")[0] == STORE
    except OSError:
        return False


def current(root: str) -> str | None:
    """Return the name of the installation in use; None if it is not ours."""
    link = toolkit_directory(root)
    return base_name(os.readlink(link)) if _is_ours(link) else None


def remove(root: str) -> list[str]:
    """Remove every installation, and put back what was there before; return what is kept, and why.

    Raises:
        UnsafeError: another user could have made the directory of the installations.
        NodeInstallationError: the file system refuses.
    """
    store, link = store_directory(root), toolkit_directory(root)
    kept = []
    try:
        if not os.path.lexists(store):
            _discard_partial(root, store)
            return []
        _check_store(store)
        _discard_partial(root, store)
        _recover(store)
        replaced = join(store, REPLACED)
        is_ours = current(root) is not None
        if is_ours and os.path.lexists(replaced):
            _swap(replaced, link)
            os.unlink(replaced)
        elif is_ours:
            os.unlink(link)
        elif os.path.lexists(replaced) and not os.path.lexists(link):
            os.rename(replaced, link)
        elif os.path.lexists(replaced):
            kept.append(f"{replaced} is kept: {link} is now of another program")
        created = created_directories.read(root)
        for name in set(os.listdir(store)) - {REPLACED, CREATED}:
            _discard(join(store, name))
        if not os.path.lexists(replaced):
            created_directories.remove(store, created)
    except OSError as error:
        raise _failure(root, error) from error
    return kept


def _make_store(root: str, store: str) -> None:
    """Create the directory of the installations, and note which directories did not exist."""
    if os.path.lexists(store):
        _check_store(store)
        _discard_partial(root, store)
        return
    _discard_partial(root, store)
    created_directories.make(store, CREATED)


def _discard_partial(root: str, store: str) -> None:
    """Discard what a killed process left beside the directories above the installations."""
    if trust.fault(root, may_be_missing=True) is None:
        created_directories.discard_partial(store)


def _check_store(store: str) -> None:
    if os.path.islink(store) or not os.path.isdir(store) or trust.fault(store):
        raise UnsafeError(
            f"{store} is not a directory that only root can change",
            hint="remove it, and start again",
            code="CDG-N402",
            subject=store,
        )


def _copy(tree: int, extra: dict[str, InstalledFile], target: str) -> None:
    """Copy a tree; every file is on the disk before the installation gets its name."""
    _make(target)
    for entry in tree_entries(tree):
        path = join(target, entry.path)
        if entry.kind == "directory":
            _make(path)
        elif entry.kind == "link":
            os.symlink(entry.target, path)
        else:
            mode = 0o755 if entry.kind == "program" else 0o644
            files.write_new(path, _content(tree, entry.path), durable=True, mode=mode)
    for name, file in extra.items():
        path = join(target, name)
        files.make_directory(parent(path))
        if file.is_link:
            os.symlink(file.text, path)
        else:
            files.write_new(path, file.text.encode(), durable=True, mode=file.mode)


def _make(directory: str) -> None:
    os.mkdir(directory, 0o755)
    os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask; engines of users read it too


def _link(root: str, store: str, name: str) -> None:
    """Make `toolkit` lead to an installation, in one step."""
    link, replaced = toolkit_directory(root), join(store, REPLACED)
    target = f"{STORE}/{name}"
    if current(root) is None and os.path.lexists(link):
        if os.path.lexists(replaced):
            raise NodeInstallationError(
                f"another program has replaced {link}, and {replaced} has what was there before",
                hint="remove one of them; perhaps NVIDIA's toolkit is installed to the same place",
                subject=link,
            )
        # What was there never has a name by which it would be removed.
        os.symlink(target, replaced)
        _swap(replaced, link)
    else:
        new = join(store, files.temporary_name() + PARTIAL)
        os.symlink(target, new)
        os.rename(new, link)


def _swap(new: str, path: str) -> None:
    """Exchange two names; in two steps on a file system that cannot do it in one."""
    try:
        exchange.exchange_names(new, path)
    except OSError as error:
        if error.errno not in exchange.UNSUPPORTED:
            raise
        aside = new + ASIDE
        os.rename(path, aside)
        os.rename(new, path)
        os.rename(aside, new)


def _synchronize(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files.synchronize(descriptor)
    finally:
        os.close(descriptor)


def _failure(root: str, error: OSError) -> NodeInstallationError:
    place = f"{error.filename}: " if error.filename else ""
    return NodeInstallationError(
        f"programs cannot be installed to {root}: {place}{error.strerror or error}",
        hint="give another directory with --root (ROOT), or --hook-free, which installs nothing",
        subject=root,
    )
