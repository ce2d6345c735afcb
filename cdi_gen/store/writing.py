# SPDX-License-Identifier: Apache-2.0
"""Writes a spec file atomically, and only to a directory that no other user can change.

A user who can write a spec can make root run a hook.
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
"""Spec directories of engines that run as root, and run the hooks of the specs as root. No other
user may have write permission there."""


def write(
    text: str,
    path: str,
    *,
    spec: Spec,
    read_as_root: Collection[str] = READ_AS_ROOT,
    temporary: str = "",
) -> None:
    """Write ``text`` to the spec file ``path``, as `write_text` does.

    Args:
        text: the text of ``spec``; it is parsed and compared with ``spec`` before it is written.
        path: the file.
        spec: the spec that ``text`` must contain.
        read_as_root: see `write_text`.
        temporary: see `write_text`.

    Raises:
        InvalidSpecError: ``text`` is not the text of ``spec``.
        UnsafeError: see `write_text`.
        CdiGenError: the file cannot be written.
    """
    _check_text(text, spec)
    write_text(text, path, read_as_root=read_as_root, temporary=temporary)


def write_text(
    text: str,
    path: str,
    *,
    read_as_root: Collection[str] = READ_AS_ROOT,
    temporary: str = "",
) -> None:
    """Write ``text`` to ``path`` atomically, with mode 0644; create the directory if needed.

    A symbolic link at ``path`` is replaced, not followed; a device such as /dev/null gets the text
    and stays. After an error the previous file is unchanged, and no other file is left behind.

    Args:
        text: the content of the file; it is written in UTF-8.
        path: the file.
        read_as_root: directories that only root (or, for an ordinary user, that user) may be able
            to change, including their parents up to ``/``. Root may not write to any other
            directory either if other users can write to it and it has no sticky bit.
        temporary: the name of the temporary file in the directory; empty: a random name.

    Raises:
        UnsafeError: another user could change or replace the file.
        CdiGenError: the file cannot be written.
    """
    directory, name = os.path.split(path)
    if not name:
        raise CdiGenError(
            f"cannot write {path}: a path that ends in / is a directory",
            code="CDG-F004",
            subject=path,
        )
    directory = directory or "."
    try:
        check_directory(directory, read_as_root)
        make_directory(directory)
        check_directory(directory, read_as_root)
        replace_file(path, text.encode(), temporary=temporary)
    except OSError as error:
        raise CdiGenError(
            f"cannot write {path}: {error.strerror}",
            hint=_dangling(directory) or _HINTS.get(error.errno or 0),
            code="CDG-F004",
            subject=path,
        ) from error


_HINTS = {
    errno.EINVAL: "leave out --output to write to standard output",
    errno.EACCES: "run the command as root, or choose another directory (--output, --cdi-root)",
    errno.EPERM: "perhaps an attribute forbids changes, see lsattr; or the file system has no such "
    "files",
    errno.EBUSY: "the file is a mount point: mount its directory instead of the file",
    errno.EROFS: "the file system is read-only: choose another directory (--output, --cdi-root)",
    errno.ENOSPC: "the file system is full; an existing file is unchanged",
    errno.EDQUOT: "your disk quota is exceeded; an existing file is unchanged",
    errno.EISDIR: "a directory has this name",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ENOENT: "no file can be created in this file system, or the directory was just removed",
    errno.EFBIG: "the file is larger than the limit of this process (ulimit -f)",
    errno.EMFILE: "this process cannot open more files (ulimit -n)",
    errno.ENAMETOOLONG: "a part of the path is too long for this file system",
}


def _dangling(directory: str) -> str | None:
    """The hint that a directory is a symbolic link which leads nowhere; None if it is not."""
    if not os.path.islink(directory) or os.path.exists(directory):
        return None
    return (
        f"{directory} is a symbolic link to {os.readlink(directory)}, which does not exist: "
        "mount its file system, or remove the link"
    )


def _check_text(text: str, spec: Spec) -> None:
    """Check that the text is the text of the spec, because root trusts the written file."""
    try:
        is_same = wire.load(text) == spec
    except SpecError as error:
        raise InvalidSpecError(
            f"not written, because the generated text is not a spec: {error}", code="CDG-F006"
        ) from error
    if not is_same:
        raise InvalidSpecError(
            "not written, because the generated text is that of another spec",
            hint="this is a bug of cdi-gen: please report it with the output of "
            "`cdi-gen inventory`",
            code="CDG-F006",
        )


def check_directory(directory: str, read_as_root: Collection[str] = READ_AS_ROOT) -> None:
    """Reject a directory in which another user could replace a file; see `write_text`.

    A directory that does not exist yet is accepted.

    Raises:
        UnsafeError: another user could replace a file; the message has the reason.
    """
    absolute = os.path.abspath(directory)
    real = os.path.realpath(directory)
    root_paths = {path for trusted in read_as_root for path in (trusted, os.path.realpath(trusted))}
    if {absolute, real} & root_paths:
        fault = trust.fault(absolute, owners={0, os.geteuid()}, may_be_missing=True)
    elif os.geteuid() == 0 and os.path.isdir(real):
        # The directory's owner is trusted; the sticky bit prevents others from replacing the file.
        status = os.stat(real)
        is_sticky = status.st_mode & stat.S_ISVTX
        reason = None if is_sticky else trust.file_fault(status, owners={status.st_uid})
        fault = f"{directory} {reason}" if reason else None
    else:
        fault = None
    if fault:
        raise UnsafeError(
            f"not writing to {directory}: {fault}",
            hint="a spec decides what root runs when a container starts, so only root may be able "
            "to change it: correct owner and mode (root:root 0755), or give another file",
            code="CDG-F005",
            subject=directory,
        )
