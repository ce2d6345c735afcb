# SPDX-License-Identifier: Apache-2.0
"""The files of spec directories, and which of them a user may read."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from typing import NamedTuple

from cdi_base.cdi import spec_directories, specification
from cdi_base.cdi.libraries import EVERY
from cdi_gen.cdi import document, wire
from cdi_gen.cdi.problem import Problem
from cdi_gen.paths import join
from cdi_gen.store import SpecFile
from cdi_gen.store.registry import interpret, unreadable_directory
from cdi_gen.why.user import User, acting_as

TOO_LOW = "CDG-S302"
"""The code of a file that claims a lower version than its fields need."""


class Access(NamedTuple):
    """What a user may do with a directory or a file."""

    error: int = 0
    """The error number of the system; 0 if the user may read it."""
    is_known: bool = True
    """Whether it could be found out: only root can say what another user may read."""

    @property
    def reason(self) -> str:
        """The error in words."""
        return os.strerror(self.error)


class Directory(NamedTuple):
    """A spec directory as the host has it."""

    path: str
    files: tuple[SpecFile, ...]
    is_link: bool
    """The path itself is a symbolic link."""
    is_directory: bool
    """False: there is no such directory, or a file has its name."""
    problem: Problem | None
    """Why this process cannot read the directory."""
    dead_links: tuple[str, ...] = ()
    """Links with the names of specs that lead to nothing, which engines pass over."""


class Host:
    """Reads spec directories of a host, each once."""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._directories: dict[str, Directory] = {}
        self._access: dict[tuple[int, str, bool], Access] = {}

    def path(self, path: str) -> str:
        """The path of this process for a path of the host."""
        return join(self.root, path)

    def is_link(self, path: str) -> bool:
        """Whether a file of the host is a symbolic link."""
        return os.path.islink(self.path(path))

    def link_text(self, path: str) -> str:
        """What a symbolic link of the host contains."""
        return os.readlink(self.path(path))

    def target_of(self, path: str) -> str:
        """The path of the host that a symbolic link of the host leads to."""
        target = self.real_path(path)
        return target.removeprefix(self.root) if self.root != "/" else target

    def modified(self, path: str) -> float:
        """When a file of the host was last written; 0 if it cannot be told."""
        try:
            return os.stat(self.path(path)).st_mtime
        except OSError:
            return 0

    def real_path(self, path: str) -> str:
        """The path of this process with every symbolic link resolved."""
        return os.path.realpath(self.path(path))

    def resolved(self, path: str) -> str:
        """The path of this process for what a path of the host leads to.

        Symbolic links resolve inside the host's root.

        Raises:
            OSError, ValueError: the path leads to nothing, or cannot be followed.
        """
        if self.root == "/":
            return path
        from cdi_base.rootfs import resolve  # noqa: PLC0415 - for a host in a directory only

        root = os.open(self.root, os.O_PATH | os.O_CLOEXEC)
        try:
            target = resolve.by_walking(root, path.lstrip("/"), stay=False)
            try:
                return os.readlink(f"/proc/self/fd/{target}")
            finally:
                os.close(target)
        finally:
            os.close(root)

    def directory(self, path: str) -> Directory:
        """The content of a spec directory, as this process can read it."""
        path = os.path.normpath(path)
        if path not in self._directories:
            self._directories[path] = self._read(path)
        return self._directories[path]

    def access(self, path: str, user: User, *, is_directory: bool = False) -> Access:
        """Whether a user may read a file or directory of the host."""
        key = (user.uid, path, is_directory)
        if key not in self._access:
            self._access[key] = self._try(self.path(path), user, is_directory=is_directory)
        return self._access[key]

    def _read(self, path: str) -> Directory:
        own_path = self.path(path)
        problem = None
        files: list[SpecFile] = []
        try:
            files += map(_spec_file, spec_directories.files(own_path))
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            parent = spec_directories.files(os.path.dirname(own_path))
            files += (_spec_file(file) for file in parent if file.path == own_path)
        except OSError as error:
            problem = unreadable_directory(path, os.strerror(error.errno or 0)).problems[0]
        try:
            is_link = stat.S_ISLNK(os.lstat(own_path).st_mode)
        except OSError:
            is_link = False
        prefix = self.root.rstrip("/")
        named = tuple(
            SpecFile(path=file.path.removeprefix(prefix), spec=file.spec, problems=file.problems)
            for file in files
        )
        dead_links = tuple(f"{path}/{name}" for name in _dead_links(own_path))
        return Directory(path, named, is_link, os.path.isdir(own_path), problem, dead_links)

    def _try(self, path: str, user: User, *, is_directory: bool) -> Access:
        if not user.is_visible:
            return self._for_root(path, is_directory=is_directory)
        with acting_as(user):
            return Access(_error(path, is_directory=is_directory))

    def _for_root(self, path: str, *, is_directory: bool) -> Access:
        """Root may read what exists; what this process does not see may exist or not."""
        error = _error(path, is_directory=is_directory)
        if error in {errno.EACCES, errno.EPERM}:
            return Access(0, is_known=False)
        return Access(error)


def _dead_links(directory: str) -> list[str]:
    try:
        names = [name for name in os.listdir(directory) if name.endswith(spec_directories.SUFFIXES)]
    except OSError:
        return []
    return sorted(name for name in names if _leads_to_nothing(f"{directory}/{name}"))


def _leads_to_nothing(path: str) -> bool:
    return os.path.islink(path) and not os.path.exists(path)


def _spec_file(file: spec_directories.SpecFile) -> SpecFile:
    """The spec of a file, also where it claims a lower version than its fields need.

    Only the oldest engines read such a file.
    """
    read = interpret(file)
    reasons = {problem.code for problem in read.problems if problem.refused_by == EVERY}
    if file.content is None or read.spec is not None or reasons != {TOO_LOW}:
        return read
    content, text_faults = wire.read(file.content)
    valid_fields, _ = specification.judge(content, text_faults)
    return replace(read, spec=document.build(valid_fields))


def _error(path: str, *, is_directory: bool) -> int:
    try:
        if is_directory:
            os.lstat(path)
            os.listdir(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or errno.EIO
    return 0
