# SPDX-License-Identifier: Apache-2.0
"""Finds the host's path of a file that the GPU Operator mounts at another path into the container.

The operator mounts the host's root read-only, and each directory that is changed beside it: the
host's /etc/containerd is at /runtime/config-dir. Only for drop-ins an environment variable says
what the host's path is. For the others the directory is looked for among those of `hosts`, and else
the kernel's table of mounts says which directory of its file system it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cdi_base.files import read_beginning
from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_gen.kubernetes.node.host_process import Bind, HostView
from cdi_gen.kubernetes.node.hosts import distributions
from cdi_gen.kubernetes.node.settings import NodeSettings
from cdi_gen.paths import base_name, join, parent

_MOUNTS = "/proc/self/mountinfo"


def host_path(path: str, host: Root, host_root: str) -> str:
    """Return the host's path of a file, which may be a path of this process.

    Raises:
        CdiGenError: the directory is mounted here, and its place on the host is not found.
    """
    if host_root == "/" or not os.path.isdir(parent(path)):
        return path
    directory = parent(path)
    usual = [directory, *(parent(row.configuration) for row in distributions())]
    mounted_from = [*_mounted_from(directory)]
    for candidate in (*usual, *mounted_from):
        if _is_same(host, candidate, directory):
            return join(candidate, base_name(path))
    if host.exists(directory) or not mounted_from:
        return path
    raise CdiGenError(
        f"{directory} is a directory of the host that is not found below {host_root}",
        hint="mount the host's root there: HOST_ROOT_MOUNT, --host-root",
        code="CDG-N408",
        subject=directory,
    )


def view_of(settings: NodeSettings, files: Iterable[tuple[str | None, str]]) -> HostView:
    """Return how this process sees the host.

    Args:
        settings: the settings.
        files: pairs of a path as the settings have it, and the host's path of the same file.
    """
    host = Root(seen_from=settings.host_root)
    if settings.host_root == "/":
        return HostView()
    if not os.path.isdir(settings.host_root):
        raise CdiGenError(
            f"--host-root: no such directory: {settings.host_root}",
            hint="mount the host's root into the container, or set HOST_ROOT_MOUNT",
            code="CDG-N408",
            subject=settings.host_root,
        )
    pairs = [(parent(path), parent(on_host)) for path, on_host in files if path]
    binds = {
        on_host: Bind(here, on_host)
        for here, on_host in pairs
        if _is_same(host, on_host, here) and not _is_writable(host, on_host)
    }
    # A directory below another one is part of that one's mount. With a mount of its own, no file
    # could be moved between the two.
    outer = [
        bind
        for on_host, bind in binds.items()
        if not any(on_host.startswith(f"{other}/") for other in binds)
    ]
    return HostView(settings.host_root, tuple(outer))


def _is_writable(host: Root, directory: str) -> bool:
    try:
        return os.access(host.open_path(host.resolve(directory)), os.W_OK)
    except OSError:
        return False


def _is_same(host: Root, directory: str, here: str) -> bool:
    """Whether a directory of the host is the one that this process has at `here`."""
    try:
        return os.path.samefile(host.open_path(host.resolve(directory)), here)
    except OSError:
        return False


def _mounted_from(directory: str) -> Iterator[str]:
    """Yield the directory of its file system that a mount point shows."""
    try:
        lines = read_beginning(_MOUNTS, 1 << 22).decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) > 4 and words[4] == directory:
            yield words[3]
