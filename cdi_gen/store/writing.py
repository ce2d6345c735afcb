# SPDX-License-Identifier: Apache-2.0
"""Writes a spec file in one step, and only where no other user could change it later.

A user who can write a spec can have root run a hook.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection

from cdi_base import trust
from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.files import make_directory, replace_file
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.problem import SpecError
from cdi_gen.errors import CdiGenError, InvalidSpecError, UnsafeError

READ_AS_ROOT = frozenset({*SPEC_DIRECTORIES, "/run/cdi"})
"""Directories whose hooks a root engine runs: nobody but root may write to them."""


def write(
    text: str, path: str, *, spec: Spec, read_as_root: Collection[str] = READ_AS_ROOT
) -> None:
    """Make ``path`` a spec file with ``text``, as `write_text` does.

    Args:
        text: the text of ``spec``; it is read back and compared before it is put in place.
        path: the file.
        spec: what ``text`` has to mean.
        read_as_root: see `write_text`.

    Raises:
        InvalidSpecError: ``text`` does not mean ``spec``.
        UnsafeError: see `write_text`.
        CdiGenError: the file system refuses.
    """
    _check_meaning(text, spec)
    write_text(text, path, read_as_root=read_as_root)


def write_text(text: str, path: str, *, read_as_root: Collection[str] = READ_AS_ROOT) -> None:
    """Make ``path`` a file of mode 0644 with ``text``, in one step; make its directory if needed.

    A symbolic link at ``path`` is replaced, not followed. Whatever fails, the file that was there
    stays as it was, and nothing else is left behind.

    Args:
        text: what the file will hold, in UTF-8.
        path: the file.
        read_as_root: directories that only root (or, for an ordinary user, that user) may be able
            to change, all the way from ``/``. Other directories are only refused to root, and only
            if others can write to them and they have no sticky bit.

    Raises:
        UnsafeError: another user could change the file, or put another in its place.
        CdiGenError: the file system refuses.
    """
    directory, name = os.path.split(path)
    if not name:
        raise CdiGenError(
            f"cannot write {path}: it ends in /, so it names a directory",
            code="CDG-F004",
            subject=path,
        )
    directory = directory or "."
    try:
        check_directory(directory, read_as_root)
        make_directory(directory)
        check_directory(directory, read_as_root)
        replace_file(path, text.encode())
    except OSError as error:
        raise CdiGenError(
            f"cannot write {path}: {error.strerror}",
            hint=_HINTS.get(error.errno or 0),
            code="CDG-F004",
            subject=path,
        ) from error


_HINTS = {
    errno.EACCES: "run it as root, or name another file with --output",
    errno.EPERM: "run it as root, or name another file with --output",
    errno.EROFS: "the file system is read-only: name another file with --output",
    errno.ENOSPC: "the file system is full; what was there before is unchanged",
    errno.EDQUOT: "your quota is used up; what was there before is unchanged",
    errno.EISDIR: "there is a directory of this name",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ENOENT: "this file system takes no files of ours, or the directory was removed meanwhile",
    errno.EFBIG: "it is larger than this process may write (ulimit -f)",
    errno.EMFILE: "this process may not open more files (ulimit -n)",
    errno.ENAMETOOLONG: "a part of the path is too long for this file system",
}


def _check_meaning(text: str, spec: Spec) -> None:
    """A last look at what root is about to trust, independent of who made the text."""
    try:
        meant = wire.load(text) == spec
    except SpecError as error:
        raise InvalidSpecError(
            f"not written, because it cannot be read back: {error}", code="CDG-F006"
        ) from error
    if not meant:
        raise InvalidSpecError(
            "not written, because it would be read back as another spec",
            hint="this is a fault of cdi-gen: please report it with the output of "
            "`cdi-gen inventory`",
            code="CDG-F006",
        )


def check_directory(directory: str, read_as_root: Collection[str] = READ_AS_ROOT) -> None:
    """Refuse a directory in which another user could replace what is written; see `write`.

    What does not exist yet is not judged.

    Raises:
        UnsafeError: it is one, and why.
    """
    absolute = os.path.abspath(directory)
    real = os.path.realpath(directory)
    if {absolute, real} & {place for known in read_as_root for place in _spellings(known)}:
        fault = trust.fault(absolute, owners={0, os.geteuid()}, may_be_missing=True)
    elif os.geteuid() == 0 and os.path.isdir(real):
        # Its owner is trusted; the sticky bit keeps others from replacing the file.
        status = os.stat(real)
        sticky = status.st_mode & stat.S_ISVTX
        reason = None if sticky else trust.file_fault(status, owners={status.st_uid})
        fault = f"{directory} {reason}" if reason else None
    else:
        fault = None
    if fault:
        raise UnsafeError(
            f"not writing to {directory}: {fault}",
            hint="a spec says what root runs when a container starts, so only root may be able to "
            "change it: correct owner and mode (root:root 0755), or name another file",
            code="CDG-F005",
            subject=directory,
        )


def _spellings(directory: str) -> tuple[str, str]:
    return directory, os.path.realpath(directory)
