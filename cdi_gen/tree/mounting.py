# SPDX-License-Identifier: Apache-2.0
"""Mounts a driver tree: a read-only tmpfs with links, copies of files, and bind mounts of others.

The tree is built in a mount namespace of its own and attached to the host's as a whole, so that
other processes see all of it or nothing, and namespaces that get the mounts of /run (systemd's
services) get one mount event. Linux before 5.2 cannot attach it so: there it is built in place.
"""

from __future__ import annotations

import errno
import os
import time

from cdi_base import child, files, syscalls
from cdi_gen.generate.driver_tree import DESCRIPTION
from cdi_gen.paths import base_name, parent
from cdi_gen.tree.fingerprint import Fingerprint, Stamp, stamp_of

SECONDS = 60
"""A bind mount takes microseconds; a driver on a network file system may take longer."""

_OPTIONS = "mode=0755,nr_inodes=8k"
_SPARE = 4 << 20
"""Bytes for directories, links and the description."""
_FLAGS = 0x2 | 0x4
"""nosuid, nodev. Not noexec: engines of ordinary users could not mount it without."""
_PAGE = 1 << 16
_PIECE = 1 << 20
_ST_NOEXEC = 8
_SIGKILL = 9
_SELINUX = "/sys/fs/selinux/enforce"
_LABEL = "security.selinux"
_MAX_OUTPUT = 1 << 12


class ChangedError(Exception):
    """A file of the driver was replaced while the tree was made."""


def attach(fingerprint: Fingerprint, target: str) -> None:
    """Mount the tree at the directory ``target``.

    Raises:
        ChangedError: a file of the driver was replaced; nothing is mounted.
        OSError: a file is missing, or the system refuses a mount; nothing is mounted.
    """
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def become(_input: int, output: int) -> None:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
            os.umask(0o022)
            _build_and_attach(fingerprint, target, namespace)
        except ChangedError as error:
            os.write(output, f"{errno.ESTALE} {error}".encode())
        except OSError as error:
            os.write(output, f"{error.errno or 0} {error.filename or error.strerror}".encode())
        except BaseException as error:  # noqa: BLE001 - the process must not return
            os.write(output, f"0 {type(error).__name__}: {error}".encode())
        os._exit(0)

    try:
        status, output = child.run_forked(become, time.monotonic() + SECONDS, most=_MAX_OUTPUT)
    finally:
        os.close(namespace)
    if output:
        number, _, subject = output.partition(" ")
        if int(number) == errno.ESTALE:
            raise ChangedError(subject)
        raise OSError(int(number), os.strerror(int(number)), subject)
    if status:
        raise OSError(0, f"the process that mounts ended with status {status}", target)


def detach(path: str) -> None:
    """Unmount everything that is mounted at a directory; processes that use it keep it."""
    while is_mounted(path):
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            syscalls.unmount(descriptor)
        finally:
            os.close(descriptor)


def is_mounted(path: str) -> bool:
    """Whether something is mounted at a directory."""
    return os.lstat(path).st_dev != os.lstat(parent(path)).st_dev


def _build_and_attach(fingerprint: Fingerprint, target: str, namespace: int) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.make_mounts_private()
    _populate(fingerprint, target)
    top = _open_directory(target)
    try:
        tree = syscalls.clone_tree(top)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        syscalls.setns(namespace)
        _build_in_place(fingerprint, target)
        return
    syscalls.setns(namespace)
    syscalls.attach(tree, _open_directory(target))


def _build_in_place(fingerprint: Fingerprint, target: str) -> None:
    try:
        _populate(fingerprint, target)
    except BaseException:
        detach(target)
        raise


def _populate(fingerprint: Fingerprint, target: str) -> None:
    """Mount the tmpfs at a directory, and fill it."""
    size = _SPARE + sum(
        stamp[2] + _PAGE
        for file, stamp in zip(fingerprint.tree.files, fingerprint.stamps, strict=True)
        if file.copied
    )
    _mount_tmpfs(target, f"{_OPTIONS},size={size}", _label(fingerprint))
    top = _open_directory(target)
    for path in _directories(fingerprint):
        os.mkdir(path, 0o755, dir_fd=top)
    for link in fingerprint.tree.links:
        os.symlink(link.text, link.path, dir_fd=top)
    for file, stamp in zip(fingerprint.tree.files, fingerprint.stamps, strict=True):
        (_copy if file.copied else _bind)(file.source, stamp, top, file.path)
    description = base_name(DESCRIPTION)
    files.write_new(description, fingerprint.text(), directory=top, mode=0o444)
    flags = syscalls.MS_REMOUNT | syscalls.MS_RDONLY | _FLAGS
    syscalls.mount(None, top, None, flags)
    os.close(top)


def _bind(source: str, stamp: Stamp, top: int, path: str) -> None:
    """Mount a file of the host on a new empty file of the tree, read-only, nosuid and nodev."""
    empty = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=top)
    file = os.open(source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    syscalls.mount(file, empty, None, syscalls.MS_BIND)
    os.close(empty)
    os.close(file)
    mounted = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    if stamp_of(os.fstat(mounted), source) != stamp:
        raise ChangedError(source)
    # In a user namespace the flag noexec of the file's own mount cannot be cleared.
    flags = _FLAGS | os.fstatvfs(mounted).f_flag & _ST_NOEXEC
    remount = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
    syscalls.mount(None, mounted, None, remount | flags)
    os.close(mounted)


def _copy(source: str, stamp: Stamp, top: int, path: str) -> None:
    """Copy a file of the host to the tree, readable and perhaps executable for everybody."""
    file = os.open(source, files.READ | os.O_NOFOLLOW)
    status = os.fstat(file)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    copy = os.open(path, flags, 0o444 | status.st_mode & 0o111, dir_fd=top)
    while piece := os.read(file, _PIECE):
        files.write_all(copy, piece)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    if stamp_of(os.fstat(file), source) != stamp or os.fstat(copy).st_size != stamp[2]:
        raise ChangedError(source)
    os.close(copy)
    os.close(file)


def _directories(fingerprint: Fingerprint) -> list[str]:
    """Return the directories of the tree, each after its parent."""
    directories: set[str] = set()
    tree = fingerprint.tree
    for path in (*(file.path for file in tree.files), *(link.path for link in tree.links)):
        parts = path.split("/")
        directories.update("/".join(parts[:end]) for end in range(1, len(parts)))
    return sorted(directories)


def _mount_tmpfs(target: str, options: str, label: str) -> None:
    """Mount a tmpfs, with the label if the kernel's policy knows it."""
    directory = _open_directory(target)
    if label:
        try:
            syscalls.mount(b"tmpfs", directory, b"tmpfs", _FLAGS, f"{options},{label}".encode())
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            return
    syscalls.mount(b"tmpfs", directory, b"tmpfs", _FLAGS, options.encode())


def _label(fingerprint: Fingerprint) -> str:
    """Return the mount option that gives links and directories a label that containers may read.

    With SELinux, a tmpfs would get a label of its own, and containers may not read it. They may
    read what has the label of the driver's directory, because the files have it too.
    """
    if not os.path.exists(_SELINUX) or not fingerprint.tree.files:
        return ""
    try:
        label = os.getxattr(parent(fingerprint.tree.files[-1].source), _LABEL)
    except OSError:
        return ""
    return f'context="{label.rstrip(bytes(1)).decode("ascii")}"'


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
