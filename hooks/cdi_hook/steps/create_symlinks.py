# SPDX-License-Identifier: Apache-2.0
"""Step create-symlinks: creates the SONAME and development links of injected libraries."""

from __future__ import annotations

import errno

from cdi_base import process
from cdi_base.errors import UsageError, shown
from cdi_hook.arguments import check_text, checked_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options

IN_ANOTHER_MOUNT = frozenset({errno.EXDEV, errno.EBUSY})
"""The link would be in a volume, or replace a mount point; volumes are not changed."""


class Link:
    """One `TARGET::LINK`: a symbolic link at `path` with the text `target`."""

    __slots__ = ("path", "target")

    def __init__(self, argument: str) -> None:
        target, _, path = argument.partition("::")
        check_text(target)
        self.path = checked_path(path)
        self.target = target
        if "::" in path or path.endswith(("/", "/.")):
            raise UsageError(f"--link {shown(argument)} is not TARGET::LINK")


def prepare(options: Options) -> list[Link]:
    """Return the requested links, each once.

    Raises:
        UsageError: a `--link` that is not TARGET::LINK with an absolute LINK.
    """
    return [Link(argument) for argument in dict.fromkeys(options["--link"])]


def run(rootfs: RootFs, links: list[Link], _until: float) -> None:
    """Create every link, whatever its target, as `nvidia-cdi-hook create-symlinks` does."""
    with rootfs.folders:
        for link in links:
            _create(rootfs, link)


def create_where_the_target_exists(rootfs: RootFs, links: list[Link], _until: float) -> None:
    """Create the links whose target exists, so that one hook serves the links of all devices.

    A link whose target was not injected is ignored. So is a link that leads to its target already,
    whatever its text.
    """
    targets: dict[str, os.stat_result] = {}
    with rootfs.folders:
        for link in links:
            path = target_path(rootfs, link)
            target = targets.get(path) or rootfs.status_in_folder(path)
            if target is not None:
                targets[path] = target
                _create(rootfs, link, target)


def target_path(rootfs: RootFs, link: Link) -> str:
    """Return the target of the link, as a path from the container's root.

    The directory of the link may not exist yet. The missing part will be plain directories, so that
    this function can resolve `..` in it.
    """
    if link.target.startswith("/"):
        return link.target
    folder = link.path.split("/")[:-1]
    components = link.target.split("/")
    while components[0] == ".." and rootfs.status("/".join(folder)) is None:
        folder.pop()
        components.pop(0)
    return "/".join((*folder, *components))


def _create(rootfs: RootFs, link: Link, target: os.stat_result | None = None) -> None:
    """Create a link; one that leads to the target already is kept, if the target is given."""
    try:
        root, path = rootfs.writable_root(link.path)
        if root is rootfs or not rootfs.leads_to(link.path, target):
            root.link(path, link.target, kept=target)
    except OSError as error:
        if error.errno not in IN_ANOTHER_MOUNT:
            raise OSError(error.errno, error.strerror, link.path) from None
        if not rootfs.leads_to(link.path, target):
            process.say(
                f"create-symlinks: {shown(link.path)}: not changed: "
                "the path is in a mount of its own",
                "CDG-K105",
            )
