# SPDX-License-Identifier: Apache-2.0
"""The files of a host as checks see them: each is read once, in the host's root, and recorded."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from cdi_gen.doctor.check import Unseen
from cdi_gen.doctor.recording import Json, Recording, bytes_of, text_form
from cdi_gen.host.roots import Root

MISSING_FILE = (errno.ENOENT, errno.ENOTDIR)


class Status(NamedTuple):
    """The attributes of a path; a final symbolic link is not followed."""

    mode: int
    """Type and permissions, as ``st_mode``."""
    uid: int
    gid: int
    major: int
    minor: int
    """The numbers of a device node."""
    size: int
    modified: float
    """Seconds since 1970."""


class HostFiles:
    """The files of a host, or of the record of one. Paths are those of the host."""

    def __init__(self, root: Root, recording: Recording) -> None:
        self.root = root
        self.recording = recording

    def fact(self, name: str, compute: Callable[[], Json], key: str = "") -> Json:
        """Return a JSON value that another package computes from the host, once, and record it."""
        return self.recording.ask(name, key, compute)

    def read(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """Return at most ``limit`` bytes of a regular file; None if there is no such file.

        Raises:
            Unseen: the file cannot be read.
        """
        answer = self._ask("read", path, lambda: text_form(self.root.read_bytes(path, limit)))
        return None if answer is None else bytes_of(answer)

    def text(self, path: str, limit: int = 1 << 20) -> str | None:
        """Return at most ``limit`` bytes of a file as text; None if there is no such file.

        Raises:
            Unseen: the file cannot be read.
        """
        content = self.read(path, limit)
        return None if content is None else content.decode("utf-8", "replace")

    def entries(self, directory: str) -> tuple[str, ...] | None:
        """Return the sorted names in a directory; None if there is no such directory.

        Raises:
            Unseen: the directory cannot be read.
        """

        def names() -> list[str]:
            return sorted(os.listdir(self.root.open_path(self.root.resolve(directory))))

        answer = self._ask("entries", directory, names)
        return None if answer is None else tuple(answer)

    def link(self, path: str) -> str | None:
        """Return the text of a symbolic link; None if the path is no link.

        Raises:
            Unseen: the directory of the path cannot be entered.
        """

        def target() -> str | None:
            self.root.lstat(path)
            directory, _, name = path.rpartition("/")
            try:
                return os.readlink(
                    f"{self.root.open_path(self.root.resolve(directory)).rstrip('/')}/{name}"
                )
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return None
                raise

        answer: str | None = self._ask("link", path, target)
        return answer

    def status(self, path: str, *, follow: bool = False) -> Status | None:
        """Return the attributes of a path; None if nothing is there.

        Args:
            path: of the host.
            follow: whether to follow a final symbolic link, inside the host's root.

        Raises:
            Unseen: the directory of the path cannot be entered.
        """

        def attributes() -> list[float]:
            status = self.root.lstat(self.root.resolve(path) if follow else path)
            return [
                *(status.st_mode, status.st_uid, status.st_gid),
                *(os.major(status.st_rdev), os.minor(status.st_rdev)),
                *(status.st_size, status.st_mtime),
            ]

        answer = self._ask("status", f"{path}{'/.' if follow else ''}", attributes)
        return None if answer is None else Status(*answer)

    def exists(self, path: str) -> bool:
        """Whether anything is at a path, possibly a broken link.

        Raises:
            Unseen: the directory of the path cannot be entered.
        """
        return self.status(path) is not None

    def is_device(self, path: str) -> bool:
        """Whether a path is a character device.

        Raises:
            Unseen: the directory of the path cannot be entered.
        """
        status = self.status(path, follow=True)
        return status is not None and stat.S_ISCHR(status.mode)

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Return the existing paths that match; ``*`` stands for any part of one component."""

        def matches() -> list[str]:
            return [path for path in self.root.expand(pattern) if self.root.exists(path)]

        return tuple(self.recording.ask("glob", pattern, matches))

    def _ask(self, kind: str, path: str, compute: Callable[[], Json]) -> Json:
        """Return the answer about a path; None if nothing is at the path.

        Raises:
            Unseen: the answer needs more rights, or the kernel does not give it.
        """

        def answer() -> Json:
            try:
                return compute()
            except OSError as error:
                if error.errno in MISSING_FILE:
                    return None
                reason = f"{path} cannot be read: {error.strerror}"
                raise Unseen(reason) from error

        return self.recording.ask(kind, path, answer)
