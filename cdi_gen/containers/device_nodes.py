# SPDX-License-Identifier: Apache-2.0
"""Lists the device nodes in a container's /dev, without opening any of them.

The container is hostile: its /dev may be a link, or a file system of its own whose server never
answers (FUSE in a user namespace). So each step is by descriptor, no link is followed, and a mount
of such a file system is not touched: the mount table, which the kernel answers, says which it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cdi_gen.containers.mounts import Mount

MAX_NAMES = 4096
"""Names in a directory that are looked at."""
DIRECTORIES = ("nvidia-caps", "nvidia-caps-imex-channels", "dri", "vfio")
"""The directories in /dev that nodes of GPUs are in."""
USUAL = frozenset(
    {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "pts", "shm", "mqueue"}
    | {"fd", "stdin", "stdout", "stderr", "core", "fuse"}
)

_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class FoundNode(NamedTuple):
    """A device node."""

    path: str
    kind: str
    major: int
    minor: int


class RemoteFileSystemError(Exception):
    """A file system that another program serves is in the way."""


def nodes(root: int, mounts: list[Mount]) -> Iterator[FoundNode]:
    """Yield the device nodes in /dev, except the usual ones.

    Args:
        root: an ``O_PATH`` descriptor of the container's root.
        mounts: of the container.

    Raises:
        RemoteFileSystemError: the container's /dev cannot be looked at without the risk of
            waiting for ever.
        OSError: the container has ended, or has no /dev.
    """
    by_id = {mount.id: mount for mount in mounts}
    # At most one mount is at the path of a node; engines bind-mount nodes for rootless containers.
    points = {mount.point for mount in mounts if mount.point.startswith("/dev/")}
    _require_local(root, by_id)
    directory = os.open("dev", _FLAGS | os.O_DIRECTORY, dir_fd=root)
    try:
        yield from _in_directory(directory, "/dev", by_id, points)
        for name in DIRECTORIES:
            subdirectory = _subdirectory(directory, name)
            if subdirectory is None:
                continue
            try:
                yield from _in_directory(subdirectory, f"/dev/{name}", by_id, points)
            finally:
                os.close(subdirectory)
    finally:
        os.close(directory)


def _subdirectory(directory: int, name: str) -> int | None:
    try:
        return os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _in_directory(
    directory: int, path: str, by_id: Mapping[str, Mount], points: set[str]
) -> Iterator[FoundNode]:
    _require_local(directory, by_id)
    listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(listing) as entries:
            names = sorted(
                entry.name
                for entry, _ in zip(entries, range(MAX_NAMES), strict=False)
                if entry.name not in USUAL and _may_be_node(entry, path, points)
            )
    finally:
        os.close(listing)
    for name in names:
        status = _status(directory, name, by_id)
        if status is None:
            continue
        kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
        if kind:
            device = status.st_rdev
            yield FoundNode(f"{path}/{name}", kind, os.major(device), os.minor(device))


def _may_be_node(entry: os.DirEntry[str], path: str, points: set[str]) -> bool:
    """Whether a name may be a node, from the directory alone: a mount hides what is in it."""
    if f"{path}/{entry.name}" in points:
        return True
    is_other = entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
    return not is_other and not entry.is_symlink()


def _status(directory: int, name: str, by_id: Mapping[str, Mount]) -> os.stat_result | None:
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=directory)
    except OSError:
        return None  # removed in the meantime
    try:
        mount = by_id.get(_mount_id(descriptor))
        if mount is None or mount.is_remote:
            return None
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _require_local(descriptor: int, by_id: Mapping[str, Mount]) -> None:
    mount = by_id.get(_mount_id(descriptor))
    if mount is None:
        raise RemoteFileSystemError("its mounts have just changed")
    if mount.is_remote:
        raise RemoteFileSystemError(
            f"{mount.point} is a file system of type {mount.kind}, which may not answer"
        )


def _mount_id(descriptor: int) -> str:
    """Return the id of the mount that a descriptor is in, which no file system is asked for."""
    file = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(file, 4096).decode("ascii", "replace")
    finally:
        os.close(file)
    return text.partition("mnt_id:")[2].partition("\n")[0].strip()


def bind_mounted(mounts: list[Mount], host_nodes: Mapping[str, FoundNode]) -> list[FoundNode]:
    """Return the nodes of the host that are bind-mounted into a container's /dev.

    For a container whose files cannot be touched. A rootless engine gives nodes only so, and in a
    user namespace nobody can create one.

    Args:
        mounts: of the container.
        host_nodes: the nodes of the host by their path.
    """
    found = []
    for mount in mounts:
        if not f"{mount.point}/".startswith("/dev/"):
            continue
        # /dev is a file system of its own on the host, so the path in it lacks /dev.
        node = host_nodes.get(f"/dev{mount.root}")
        if node is not None:
            found.append(node._replace(path=mount.point))
        elif mount.kind == "devtmpfs":
            # A directory of it, or the whole.
            above = f"/dev{mount.root}".rstrip("/") + "/"
            found += [
                node._replace(path=f"{mount.point}/{path.removeprefix(above)}")
                for path, node in host_nodes.items()
                if path.startswith(above)
            ]
    return found
