# SPDX-License-Identifier: Apache-2.0
"""Step create-symlinks: the SONAME and development links of the libraries that were injected."""

from __future__ import annotations

import errno

from cdi_base import process
from cdi_base.errors import UsageError, shown
from cdi_base.files import same_file
from cdi_hook.arguments import check_text, checked_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options

ELSEWHERE = frozenset({errno.EXDEV, errno.EBUSY})
"""The place lies in a volume, or is itself one: what an operator mounted is not ours to change."""


class Link:
    """One `TARGET::LINK`: at `path`, a symbolic link that says `target`."""

    __slots__ = ("path", "target")

    def __init__(self, argument: str) -> None:
        target, _, path = argument.partition("::")
        check_text(target)
        self.path = checked_path(path)
        self.target = target
        if "::" in path or path.endswith(("/", "/.")):
            raise UsageError(f"--link {shown(argument)} is not TARGET::LINK")


def prepare(options: Options) -> list[Link]:
    """The links that are asked for, each once.

    Raises:
        UsageError: a `--link` that is not TARGET::LINK with an absolute LINK.
    """
    return [Link(argument) for argument in dict.fromkeys(options["--link"])]


def run(rootfs: RootFs, links: list[Link], _until: float) -> None:
    """Make every link, whatever its target (what `nvidia-cdi-hook create-symlinks` does)."""
    for link in links:
        _make(rootfs, link)


def create_where_the_target_exists(rootfs: RootFs, links: list[Link], _until: float) -> None:
    """Make the links whose target the container has, so that one hook serves every device.

    A link whose target was not injected is left out without a word, and so is one that leads there
    already, by whatever text.
    """
    for link in links:
        target = rootfs.status(target_path(rootfs, link))
        if target is None:
            continue
        present = rootfs.status(link.path)
        if present is not None and same_file(present, target):
            continue
        _make(rootfs, link)


def target_path(rootfs: RootFs, link: Link) -> str:
    """Where the link will lead, as a path from the container's root.

    Its directory may not be there yet; the part that is missing will be plain directories, so `..`
    may be taken off it by hand.
    """
    if link.target.startswith("/"):
        return link.target
    folder = link.path.split("/")[:-1]
    ahead = link.target.split("/")
    while ahead[0] == ".." and rootfs.status("/".join(folder)) is None:
        folder.pop()
        ahead.pop(0)
    return "/".join((*folder, *ahead))


def _make(rootfs: RootFs, link: Link) -> None:
    try:
        root, path = rootfs.writable_root(link.path)
        root.link(path, link.target)
    except OSError as error:
        if error.errno not in ELSEWHERE:
            raise OSError(error.errno, error.strerror, link.path) from None
        process.say(
            f"create-symlinks: {shown(link.path)}: left alone: it is in a mount of its own",
            "CDG-K105",
        )
