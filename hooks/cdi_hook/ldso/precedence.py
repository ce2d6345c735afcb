# SPDX-License-Identifier: Apache-2.0
"""Makes the loader find the driver's library if an image has another library of the same name.

The driver's directory may be one that the image's loader searches already, for example /usr/lib64,
and the image may list a directory before it that has a libcuda: stubs, or a compat directory that
this host must not use. Listing the driver's directory first would also put its other libraries
first, for example before a newer libstdc++ of the image. So only the conflicting names come first,
as links in a directory of their own. A later ldconfig in the container has the same result.
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
    """The text of each link, by its name in a directory of links."""

GLIBC = "/etc/cdi-gen/glibc"
"""The parent of a directory of links for each architecture: i386 and x86-64 share names."""
MUSL = "/etc/cdi-gen/musl"

NO_FOLDER = frozenset({*NOWHERE, errno.EINVAL})


class Driver:
    """The driver's libraries in a container: files that are mounted into directories of the spec.

    `system` are directories in which images have their own libraries: a mount over such a directory
    as a whole does not belong to the driver.
    """

    def __init__(self, rootfs: RootFs, folders: list[str], system: tuple[str, ...]) -> None:
        self.rootfs = rootfs
        self._folders = folders
        self._system = system
        self._is_whole: dict[tuple[int, int], bool] = {}
        self._mounts: dict[str, tuple[int, bool] | None] = {}

    def owns(self, path: str) -> bool:
        """Whether a file was mounted into one of the directories, or is in a mounted directory."""
        folder = path.rpartition("/")[0]
        if folder not in self._mounts:
            self._mounts[folder] = self._mount_of(folder)
        directory_mount = self._mounts[folder]
        if directory_mount is None:
            return False
        try:
            file = self.rootfs.find(path)
        except OSError:
            return False
        try:
            mount, is_whole = directory_mount
            return is_whole or mount_id(file) != mount
        finally:
            os.close(file)

    def _mount_of(self, path: str) -> tuple[int, bool] | None:
        """Return the mount of a directory of the spec, and whether all of it is the driver's."""
        if not self._is_whole:
            system = {identity(self.rootfs, folder) for folder in self._system}
            for folder in self._folders:
                directory = identity(self.rootfs, folder)
                if directory is not None:
                    self._is_whole[directory] = directory not in system
        directory = identity(self.rootfs, path)
        if directory is None or directory not in self._is_whole:
            return None
        descriptor = self.rootfs.find(path)
        try:
            mount = mount_id(descriptor)
        finally:
            os.close(descriptor)
        return mount, self._is_whole[directory] and mount != mount_id(self.rootfs.descriptor)


def hidden_from_glibc(
    driver: Driver, compat: list[str], libraries: list[Entry]
) -> dict[str, Links]:
    """Return links to libraries of the driver that others would hide from glibc's loader.

    Args:
        driver: the libraries that the loader has to find.
        compat: directories that come before the driver's, by enable-cuda-compat.
        libraries: the entries of a cache, in the order of its directories.

    Returns:
        Links by their directory below `GLIBC`.
    """
    first: dict[tuple[bytes, int], Entry] = {}
    conflicts: dict[tuple[bytes, int], list[Entry]] = {}
    for entry in libraries:
        key = (entry.name, entry.flags)
        first_entry = first.setdefault(key, entry)
        if first_entry is not entry:
            conflicts.setdefault(key, [first_entry]).append(entry)
    links: dict[str, Links] = {}
    for (name, flags), candidates in conflicts.items():
        preferred = _preferred(driver, compat, candidates)
        if preferred is None:
            continue
        # A library for a newer processor is found first, whatever the order of directories.
        for hwcaps, entry in {entry.hwcaps: entry for entry in reversed(candidates)}.items():
            if not _is_as_good(driver, os.fsdecode(entry.path), preferred):
                prefix = f"{HWCAPS}/{os.fsdecode(hwcaps)}/" if hwcaps else ""
                links.setdefault(f"{flags:x}", {})[prefix + os.fsdecode(name)] = preferred
    return links


def _preferred(driver: Driver, compat: list[str], candidates: list[Entry]) -> str | None:
    paths = [os.fsdecode(entry.path) for entry in candidates if not entry.hwcaps]
    owned = next(filter(driver.owns, paths), None)
    if owned is None:
        return None
    return next((path for path in paths if path.rpartition("/")[0] in compat), owned)


def hidden_from_musl(driver: Driver, folders: list[str]) -> Links:
    """Return the links for musl's loader, which takes the first file of a name, of any kind."""
    first: dict[str, str] = {}
    links: Links = {}
    memory = Memory("the libraries of musl's search path")
    for folder in folders:
        for name in _names(driver.rootfs, folder) if folder.startswith("/") else ():
            if name.startswith("lib") and ".so" in name:
                path = f"{folder}/{name}"
                first_path = first.setdefault(name, path)
                if first_path is path:
                    memory.keep(2 * OVERHEAD + len(name) + len(path))
                if first_path == path or not driver.owns(path):
                    continue
                if not _is_as_good(driver, first_path, path):
                    links.setdefault(name, path)
    return links


def _is_as_good(driver: Driver, path: str, preferred: str) -> bool:
    """Whether a path leads to the preferred file, or to another file of the driver."""
    if path == preferred or driver.owns(path):
        return True
    file = identity(driver.rootfs, path)
    return file is not None and file == identity(driver.rootfs, preferred)


def put_all(rootfs: RootFs, above: str, links: dict[str, Links]) -> list[str]:
    """Call `put` for each directory of links below `above`; return those that have links."""
    for name in dict.fromkeys((*_names(rootfs, above), *links)):
        put(rootfs, f"{above}/{name}", links.get(name, {}))
    return [f"{above}/{name}" for name in links]


def put(rootfs: RootFs, folder: str, links: Links) -> None:
    """Make a directory have exactly these links; an image may have links of another host."""
    for prefix in ("", *(f"{HWCAPS}/{name}/" for name in _names(rootfs, f"{folder}/{HWCAPS}"))):
        for name in _names(rootfs, f"{folder}/{prefix}"):
            if prefix + name not in links and name != HWCAPS:
                rootfs.remove(f"{folder}/{prefix}{name}")
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
    """Return device and inode of what a path leads to; None if it leads nowhere."""
    status = rootfs.status(path)
    return None if status is None else (status.st_dev, status.st_ino)
