# SPDX-License-Identifier: Apache-2.0
"""The directory of all driver trees: which trees there are, which one is current, one writer."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cdi_base import files, locks, trust
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.generate.driver_tree import CURRENT, DESCRIPTION, ROOT, DriverTree
from cdi_gen.paths import base_name
from cdi_gen.tree import mounting
from cdi_gen.tree.fingerprint import FORMAT, Document, Fingerprint, file_stamp

GRACE_SECONDS = 2.0
"""A runtime opens the sources of a container's mounts before it mounts them."""

SETTLE_SECONDS = 0.5
"""How long a new tree is mounted before it becomes the current one. A runtime that has created the
mount namespace of its container before does not get the mount (crun makes all mounts private), and
would follow the link to an empty directory. It has mounted everything within milliseconds."""

ATTEMPTS = 3
"""How often a tree is begun again because a package manager replaced a file meanwhile."""

LOCK_SECONDS = 300.0
"""How long a process waits for another one. A change takes seconds at most."""

MAX_SIZE = 4 << 20

_LINK, _DESCRIPTION = base_name(CURRENT), base_name(DESCRIPTION)
_LOCK = "lock"
_NAME = re.compile(r"[0-9][0-9A-Za-z.]{0,63}-[0-9a-f]{16}")
_NEW_LINK = re.compile(r"\.current-[0-9a-f]{16}")


class Tree(NamedTuple):
    """A driver tree that was made."""

    path: str
    document: Document
    """The description in the tree, see `Fingerprint.document`."""

    @property
    def name(self) -> str:
        """The name of the directory."""
        return base_name(self.path)

    @property
    def version(self) -> str:
        """The driver's version."""
        return str(self.document["driverVersion"])

    def changed_files(self) -> tuple[str, ...]:
        """Return the files of the host that are missing now, or were replaced."""
        return tuple(
            source for _, source, _, *stamp in self.document["files"] if not _has(source, stamp)
        )


class Directory:
    """The directory of all trees; changes need the lock."""

    def __init__(self, root: str = ROOT) -> None:
        self._root = root

    @contextmanager
    def locked(self, *, create: bool = True) -> Iterator[Directory]:
        """Take the lock, and wait for another process that has it; create the directory.

        Raises:
            UnsafeError: a user other than root could change the directory.
            CdiGenError: the process is not root, the directory cannot be created, or another
                process has the lock for too long; or an `OSError` in the block.
        """
        if os.geteuid() != 0:
            raise CdiGenError(
                f"only root can change the driver tree {self._root}",
                hint="run the command as root; or use --form files",
                code="CDG-L002",
                subject=self._root,
            )
        try:
            if create:
                files.make_directory(self._root)
            elif not os.path.isdir(self._root):
                yield self
                return
            reason = trust.fault(self._root, owners=trust.machine_root())
            if reason:
                raise UnsafeError(
                    f"the driver tree {self._root} is not changed: {reason}",
                    hint="correct owner and mode of the directory: root:root 0755",
                    code="CDG-L003",
                    subject=self._root,
                )
            lock = locks.open_file(f"{self._root}/{_LOCK}")
            try:
                self._take(lock)
                yield self
            finally:
                os.close(lock)
        except OSError as error:
            raise CdiGenError(
                f"cannot change the driver tree {self._root}: "
                f"{error.filename or self._root}: {error.strerror}",
                code="CDG-L001",
                subject=self._root,
            ) from error

    def _take(self, lock: int) -> None:
        if not locks.take(lock, LOCK_SECONDS):
            path = f"{self._root}/{_LOCK}"
            raise CdiGenError(
                f"another change of the driver tree does not end: it holds {path}",
                hint=f"find the process with: fuser -v {path}",
                code="CDG-L006",
                subject=path,
            )

    def current(self) -> Tree | None:
        """Return the tree that the link leads to; None if there is no complete one."""
        name = self._current_name()
        return self._tree(name) if name else None

    def trees(self) -> tuple[Tree, ...]:
        """Return all complete trees, the current one first."""
        now = self._current_name()
        names = sorted(self._names(), key=lambda name: (name != now, name))
        return tuple(tree for name in names if (tree := self._tree(name)))

    def make(self, tree: DriverTree, settle: float) -> tuple[Tree, bool]:
        """Make a tree, unless it exists, and the link to it; return whether the link changed.

        See `cdi_gen.tree.make`.

        Raises:
            CdiGenError: a file of the driver is missing, or is replaced again and again.
            OSError: the system refuses.
        """
        before = self.current()
        for _ in range(ATTEMPTS):
            fingerprint = _fingerprint(tree)
            try:
                made = self._tree(fingerprint.name) or self._build(fingerprint)
            except mounting.ChangedError:
                continue
            changed = before is None or before.name != made.name
            if changed and before is not None:
                time.sleep(settle)
            if changed:
                self._switch(made.name)
            return made, changed
        raise CdiGenError(
            "the driver's files are being replaced",
            hint="run the command again when the driver's packages are installed",
            code="CDG-L004",
            subject=self._root,
        )

    def clean(self, grace: float) -> tuple[str, ...]:
        """Remove all trees but the current one; see `cdi_gen.tree.clean`.

        Raises:
            OSError: the system refuses.
        """
        now = self._current_name()
        others = [name for name in self._names() if name != now]
        if now and others:
            age = time.time() - os.lstat(f"{self._root}/{_LINK}").st_mtime
            if 0 <= age < grace:  # a clock that was set back is no reason to wait
                time.sleep(grace - age)
        return self._remove(others)

    def remove(self) -> tuple[str, ...]:
        """Remove the link and all trees.

        Raises:
            OSError: the system refuses.
        """
        if self._current_name():
            os.unlink(f"{self._root}/{_LINK}")
        return self._remove(self._names())

    def _build(self, fingerprint: Fingerprint) -> Tree:
        path = f"{self._root}/{fingerprint.name}"
        try:
            if not os.path.isdir(path):
                os.mkdir(path, 0o755)
            mounting.detach(path)  # an incomplete tree of a killed process, or of an older kernel
            mounting.attach(fingerprint, path)
        except BaseException:
            self._remove([fingerprint.name])
            raise
        tree = self._tree(fingerprint.name)
        if tree is None:
            raise OSError(errno.EIO, "the tree is not there after it was mounted", path)
        return tree

    def _switch(self, name: str) -> None:
        new = f"{self._root}/.{_LINK}-{os.urandom(8).hex()}"
        try:
            os.symlink(name, new)
            os.rename(new, f"{self._root}/{_LINK}")
        except BaseException:
            files.discard(new)
            raise

    def _remove(self, names: list[str]) -> tuple[str, ...]:
        for name in names:
            path = f"{self._root}/{name}"
            try:
                mounting.detach(path)
                os.rmdir(path)
            except FileNotFoundError:
                continue
        for name in filter(_NEW_LINK.fullmatch, self._listing()):
            files.discard(f"{self._root}/{name}")
        return tuple(names)

    def _names(self) -> list[str]:
        """Return the names of all directories of trees, complete or not."""
        return sorted(filter(_NAME.fullmatch, self._listing()))

    def _listing(self) -> list[str]:
        try:
            return os.listdir(self._root)
        except FileNotFoundError:
            return []

    def _current_name(self) -> str | None:
        try:
            name = os.readlink(f"{self._root}/{_LINK}")
        except OSError:
            return None
        return name if _NAME.fullmatch(name) else None

    def _tree(self, name: str) -> Tree | None:
        """Return the tree of a directory; None if it is not mounted or not complete."""
        path = f"{self._root}/{name}"
        try:
            if not mounting.is_mounted(path):
                return None
            document = json.loads(trust.read(f"{path}/{_DESCRIPTION}", MAX_SIZE))
        except (OSError, ValueError):
            return None
        return Tree(path, document) if document.get("format") == FORMAT else None


def _fingerprint(tree: DriverTree) -> Fingerprint:
    try:
        return Fingerprint.of(tree)
    except OSError as error:
        raise CdiGenError(
            f"the driver tree is not changed: {error.filename}: {error.strerror}",
            hint="the driver's packages are perhaps being replaced; run the command again",
            code="CDG-L004",
            subject=str(error.filename),
        ) from error


def _has(path: str, stamp: list[int]) -> bool:
    try:
        return list(file_stamp(path)) == stamp
    except OSError:
        return False
