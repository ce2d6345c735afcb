# SPDX-License-Identifier: Apache-2.0
"""Which of several libraries of one name a loader finds, and that it is the driver's own.

The driver's folder may be one that the image's loader knows, /usr/lib64 say, and an image may list
another before it that has a libcuda: its stubs, or a compat folder that this host must not use. To
put the driver's folder in front would put all else of it there, before a newer libstdc++ that the
image lists. So only the names in dispute are: as links in a folder that has nothing else, which is
listed before all others. A later ldconfig of the image finds the same.
"""

from __future__ import annotations

import errno
import os

from cdi_base.rootfs.resolve import mount_id
from cdi_base.rootfs.rootfs import NOWHERE
from cdi_hook.ldso.library_directory import HWCAPS, OVERHEAD, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.ldso.cache_file import Entry

    Links = dict[str, str]
    """What each link says, by its name in a folder of links."""

GLIBC = "/etc/cdi-gen/glibc"
"""Above a folder of links for each kind of library, for i386 and x86-64 have the same names."""
MUSL = "/etc/cdi-gen/musl"

NO_FOLDER = frozenset({*NOWHERE, errno.EINVAL})


class Driver:
    """The driver's libraries in a container: what is mounted into the folders of the spec.

    `system` are folders in which images have libraries of their own: what is mounted over such a
    folder as a whole is no driver.
    """

    def __init__(self, rootfs: RootFs, folders: list[str], system: tuple[str, ...]) -> None:
        self.rootfs = rootfs
        self._folders = folders
        self._system = system
        self._of_the_spec: dict[tuple[int, int], bool] = {}
        self._known: dict[str, tuple[int, bool] | None] = {}

    def owns(self, path: str) -> bool:
        """Whether a file lies in one of the folders and was mounted there, or with all of it."""
        folder = path.rpartition("/")[0]
        if folder not in self._known:
            self._known[folder] = self._mount_of(folder)
        known = self._known[folder]
        if known is None:
            return False
        try:
            file = self.rootfs.find(path)
        except OSError:
            return False
        try:
            mount, is_all = known
            return is_all or mount_id(file) != mount
        finally:
            os.close(file)

    def _mount_of(self, path: str) -> tuple[int, bool] | None:
        """Of a folder of the spec, by any name: its mount, and if all of it is the driver's."""
        if not self._of_the_spec:
            system = {identity(self.rootfs, folder) for folder in self._system}
            for folder in self._folders:
                place = identity(self.rootfs, folder)
                if place is not None:
                    self._of_the_spec[place] = place not in system
        place = identity(self.rootfs, path)
        if place is None or place not in self._of_the_spec:
            return None
        descriptor = self.rootfs.find(path)
        try:
            mount = mount_id(descriptor)
        finally:
            os.close(descriptor)
        return mount, self._of_the_spec[place] and mount != mount_id(self.rootfs.descriptor)


def hidden_from_glibc(
    driver: Driver, compat: list[str], libraries: list[Entry]
) -> dict[str, Links]:
    """Links to the driver's libraries in whose place glibc's loader would find others.

    Args:
        driver: what is to be found.
        compat: folders that come before the driver's by a rule of their own.
        libraries: what a cache would have, in the order of its folders.

    Returns:
        Links by their folder below `GLIBC`.
    """
    first: dict[tuple[bytes, int], Entry] = {}
    disputed: dict[tuple[bytes, int], list[Entry]] = {}
    for entry in libraries:
        key = (entry.name, entry.flags)
        known = first.setdefault(key, entry)
        if known is not entry:
            disputed.setdefault(key, [known]).append(entry)
    links: dict[str, Links] = {}
    for (name, flags), claimants in disputed.items():
        wanted = _wanted(driver, compat, claimants)
        if wanted is None:
            continue
        # A library for better processors is found first, whatever the order of folders.
        for hwcaps, found in {each.hwcaps: each for each in reversed(claimants)}.items():
            if not _is_as_good(driver, os.fsdecode(found.path), wanted):
                place = f"{HWCAPS}/{os.fsdecode(hwcaps)}/" if hwcaps else ""
                links.setdefault(f"{flags:x}", {})[place + os.fsdecode(name)] = wanted
    return links


def _wanted(driver: Driver, compat: list[str], claimants: list[Entry]) -> str | None:
    paths = [os.fsdecode(each.path) for each in claimants if not each.hwcaps]
    owned = next(filter(driver.owns, paths), None)
    if owned is None:
        return None
    return next((path for path in paths if path.rpartition("/")[0] in compat), owned)


def hidden_from_musl(driver: Driver, folders: list[str]) -> Links:
    """The same for musl's loader, which takes the first file of a name, whatever it is."""
    first: dict[str, str] = {}
    links: Links = {}
    memory = Memory("the libraries of musl's search path")
    for folder in folders:
        for name in _names(driver.rootfs, folder) if folder.startswith("/") else ():
            if name.startswith("lib") and ".so" in name:
                path = f"{folder}/{name}"
                found = first.setdefault(name, path)
                if found is path:
                    memory.keep(2 * OVERHEAD + len(name) + len(path))
                if found == path or not driver.owns(path):
                    continue
                if not _is_as_good(driver, found, path):
                    links.setdefault(name, path)
    return links


def _is_as_good(driver: Driver, path: str, wanted: str) -> bool:
    """Whether what is found is what is wanted, by any name, or is the driver's too."""
    if path == wanted or driver.owns(path):
        return True
    found = identity(driver.rootfs, path)
    return found is not None and found == identity(driver.rootfs, wanted)


def put_all(rootfs: RootFs, above: str, links: dict[str, Links]) -> list[str]:
    """The same for each folder of links below one; those that have any are returned."""
    for name in dict.fromkeys((*_names(rootfs, above), *links)):
        put(rootfs, f"{above}/{name}", links.get(name, {}))
    return [f"{above}/{name}" for name in links]


def put(rootfs: RootFs, folder: str, links: Links) -> None:
    """Make a folder have these links and no others: an image may hold those of another host."""
    for place in ("", *(f"{HWCAPS}/{name}/" for name in _names(rootfs, f"{folder}/{HWCAPS}"))):
        for name in _names(rootfs, f"{folder}/{place}"):
            if place + name not in links and name != HWCAPS:
                rootfs.remove(f"{folder}/{place}{name}")
    for name, text in links.items():
        rootfs.link(f"{folder}/{name}", text)


def _names(rootfs: RootFs, folder: str) -> list[str]:
    try:
        return rootfs.names(folder)
    except OSError as error:
        if error.errno in NO_FOLDER:
            return []
        raise


def identity(rootfs: RootFs, path: str) -> tuple[int, int] | None:
    """What a path leads to, by device and inode; None if it leads nowhere."""
    status = rootfs.status(path)
    return None if status is None else (status.st_dev, status.st_ino)
