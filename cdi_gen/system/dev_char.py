# SPDX-License-Identifier: Apache-2.0
"""Links the driver's device nodes in ``/dev/char``, as udev does for nodes of other drivers.

systemd finds the path of a device by ``/dev/char/MAJOR:MINOR``. If a container's cgroup is one of
systemd's and the link is missing, ``systemctl daemon-reload`` takes the device away from the
container (NVIDIA/nvidia-container-toolkit issue 48).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from cdi_base.files import discard, make_directory, temporary_name
from cdi_base.findings import Finding
from cdi_gen.catalogue import catalogue
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.host.devices.proc import CAPS
from cdi_gen.host.roots import Root
from cdi_gen.paths import join
from cdi_gen.system.device_nodes import open_directory
from cdi_gen.system.driver import gpu_addresses
from cdi_gen.system.driver_nodes import DriverNode, KernelFacts, capability_node

DEFAULT = "/dev/char"
PATTERNS = (
    "/dev/nvidia*",
    "/dev/nvidia-caps/nvidia-*",
    "/dev/nvidia-caps-imex-channels/channel*",
)
LINKED_BY_UDEV = ("nvidia-fs", "nvidia-nvswitch", "nvidia-nvlink")
"""Beginnings of names of nodes that are left out, as nvidia-ctk does."""

MIG_MINORS = "/proc/driver/nvidia-caps/mig-minors"
_INSTANCE = re.compile(r"gpu(\d{1,3})/gi\d+(?:/ci\d+)?/access")
_NUMBERS = re.compile(r"(\d{1,4}):(\d{1,7})")

Action = Literal["kept", "created", "replaced", "removed", "occupied"]


class CharLink(NamedTuple):
    """A link, and what was done with it, or would be done."""

    name: str
    """``195:0``."""
    target: str
    """The node's path on the host."""
    action: Action
    finding: Finding | None = None


def existing_nodes(dev: Root) -> list[DriverNode]:
    """Return the driver's nodes in a dev root."""
    nodes = []
    for pattern in PATTERNS:
        for path in dev.expand(pattern):
            name = path.rpartition("/")[2]
            try:
                status = dev.lstat(path)
            except OSError:
                continue
            if stat.S_ISCHR(status.st_mode) and not name.startswith(LINKED_BY_UDEV):
                number = status.st_rdev
                nodes.append(DriverNode(path, os.major(number), os.minor(number)))
    return nodes


def possible_nodes(kernel: Root) -> list[DriverNode]:
    """Return the nodes that the GPUs and their future MIG devices can have.

    Raises:
        NoDriverError: a kernel module is not loaded, so that its number is not known.
    """
    facts = KernelFacts(kernel)
    majors = {entry.drivers: facts.major(entry.drivers) for entry in catalogue().control_nodes}
    if None in majors.values():
        names = ", ".join(drivers[0] for drivers, major in majors.items() if major is None)
        raise NoDriverError(
            f"/proc/devices has no driver {names}",
            hint="load the kernel modules, or link the nodes that exist: leave out --create-all",
            code="CDG-H001",
        )
    count = len([*gpu_addresses(kernel)])
    if count == 0:
        return []
    nodes = [
        facts.control_node(entry, major)
        for entry in catalogue().control_nodes
        if (major := majors[entry.drivers]) is not None
    ]
    nodes += map(facts.gpu, range(count))
    caps = facts.major(CAPS)
    if caps is not None:
        nodes += [capability_node(caps, minor) for minor in _mig_minors(kernel, count)]
    return nodes


def link(
    nodes: Sequence[DriverNode],
    host: Root,
    dev: Root,
    *,
    directory: str = DEFAULT,
    dry_run: bool = False,
) -> list[CharLink]:
    """Link nodes by their numbers; remove links of ours to nodes that have other numbers now.

    Args:
        nodes: the nodes of the dev root.
        host: the root of the host.
        dev: the root with ``/dev``.
        directory: the path of ``/dev/char`` on the host.
        dry_run: change nothing.

    Raises:
        UnsafeError: users other than root can change the directory.
        CdiGenError: the kernel refuses.
    """
    path = host.open_path(join(directory))
    try:
        if not nodes:
            return []
        if dry_run:
            return list(_links(nodes, dev, directory, _Directory(path, None)))
        make_directory(path)
        with open_directory(host, join(directory)) as descriptor:
            return list(_links(nodes, dev, directory, _Directory(path, descriptor)))
    except OSError as error:
        is_denied = isinstance(error, PermissionError)
        raise CdiGenError(
            f"cannot create links in {directory}: {error.strerror}",
            hint="run the command as root" if is_denied else None,
            code="CDG-D003",
            subject=directory,
        ) from error


class _Directory:
    """The directory of the links; without a descriptor it is only read."""

    def __init__(self, path: str, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    def links(self) -> dict[str, str | None]:
        """Return the text of each link with numbers as its name; None if it is not a link."""
        texts: dict[str, str | None] = {}
        with suppress(FileNotFoundError):
            for name in os.listdir(self._path):
                if _NUMBERS.fullmatch(name):
                    texts[name] = self._text(name)
        return texts

    def create(self, name: str, target: str) -> None:
        if self._descriptor is not None:
            with suppress(FileExistsError):  # udev has created it in the meantime
                os.symlink(target, name, dir_fd=self._descriptor)

    def replace(self, name: str, target: str) -> None:
        if self._descriptor is None:
            return
        temporary = temporary_name()
        try:
            os.symlink(target, temporary, dir_fd=self._descriptor)
            os.rename(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        finally:
            discard(temporary, self._descriptor)

    def remove(self, name: str) -> None:
        if self._descriptor is not None:
            discard(name, self._descriptor)

    def _text(self, name: str) -> str | None:
        try:
            return os.readlink(f"{self._path}/{name}")
        except OSError:
            return None


def _links(
    nodes: Sequence[DriverNode], dev: Root, path: str, directory: _Directory
) -> Iterator[CharLink]:
    texts = directory.links()
    targets = {node.numbers: dev.host_path(node.path) for node in nodes}
    for name, target in targets.items():
        if name not in texts:
            directory.create(name, target)
            yield CharLink(name, target, "created")
            continue
        text = texts[name]
        current = None if text is None else _absolute(path, text)
        if current == target:
            yield CharLink(name, target, "kept")
        elif current is not None and _is_driver_node(current, dev):
            directory.replace(name, target)
            yield CharLink(name, target, "replaced")
        else:
            yield CharLink(name, target, "occupied", _occupied(join(path, name), target, text))
    for name in _outdated(nodes, dev, path, texts):
        directory.remove(name)
        yield CharLink(name, _absolute(path, texts[name] or ""), "removed")


def _outdated(
    nodes: Iterable[DriverNode], dev: Root, path: str, texts: dict[str, str | None]
) -> Iterator[str]:
    """Yield the names of links to a node that has other numbers."""
    numbers = {dev.host_path(node.path): node.numbers for node in nodes}
    for name in texts.keys() - {*numbers.values()}:
        text = texts[name]
        if text is not None and _absolute(path, text) in numbers:
            yield name


def _occupied(link_path: str, target: str, text: str | None) -> Finding:
    reason = "it is not a symbolic link" if text is None else f"it is a link to {text}"
    message = f"{link_path} does not lead to {target}: {reason}; it is left as it is"
    return Finding("CDG-D104", "warning", message, subject=link_path)


def _absolute(directory: str, text: str) -> str:
    """Return where a link in a directory leads to, by its text: udev's links are relative."""
    return os.path.normpath(text if text.startswith("/") else join(directory, text))


def _is_driver_node(path: str, dev: Root) -> bool:
    return path.startswith(dev.host_path("/dev/nvidia"))


def _mig_minors(kernel: Root, gpus: int) -> Iterator[int]:
    """Yield the minor numbers of all MIG capabilities that so many GPUs can have."""
    try:
        text = kernel.read_text(MIG_MINORS)
    except OSError:
        return
    for line in text.splitlines():
        name, _, minor = line.partition(" ")
        match = _INSTANCE.fullmatch(name)
        is_wanted = int(match[1]) < gpus if match else name in {"config", "monitor"}
        if is_wanted and minor.isdecimal() and len(minor) <= 7:
            yield int(minor)
