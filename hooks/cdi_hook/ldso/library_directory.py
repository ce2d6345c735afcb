# SPDX-License-Identifier: Apache-2.0
"""One folder of libraries as glibc's ldconfig sees it: which names count, and what each one is."""

from __future__ import annotations

import errno
import os
import stat
import time

from cdi_base import elf, process
from cdi_base.errors import HookError, shown
from cdi_base.files import MAX_LINKS
from cdi_base.rootfs.opening import open_file
from cdi_base.rootfs.rootfs import MAX_NAMES
from cdi_base.syscalls import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs

HWCAPS = "glibc-hwcaps"

MAX_KEPT = 48 << 20
"""Of one folder; a folder of 20,000 libraries needs 10 MiB."""

OVERHEAD = 150
"""What Python needs for a name and its place in a table, besides its letters."""

MAX_NAME = 255
"""Bytes that the name of a file may have."""

_LIBC6 = 3
_MACHINES = {
    "x86_64": {
        (64, elf.EM_X86_64): 0x0300 | _LIBC6,
        (32, elf.EM_X86_64): 0x0800 | _LIBC6,
        (32, elf.EM_386): _LIBC6,
    },
    "aarch64": {(64, elf.EM_AARCH64): 0x0A00 | _LIBC6, (32, elf.EM_ARM): _LIBC6},
}
_FLAGS = _MACHINES.get(MACHINE, {})
"""What the loaders of this machine look for. glibc's own ldconfig on aarch64 does not look at the
file's machine, and lists an x86 library as an aarch64 one; this one leaves it out."""

_ARM_ABI, _ARM_ABI_5 = 0xFF000000, 0x05000000
_ARM_FLAGS = {0x200: 0x0B00 | _LIBC6, 0x400: 0x0900 | _LIBC6}
"""By the float ABI in the header of a 32-bit ARM library: soft, hard."""

FLAGS = frozenset((*_FLAGS.values(), *_ARM_FLAGS.values()))
"""All that an entry may have here; empty on a machine that is not known."""

UNREADABLE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EINVAL,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.ESTALE,
        errno.EIO,
        errno.EXDEV,
    }
)
"""What ldconfig passes over too; EINVAL is what is never opened, a pipe, a device or a file of the
kernel's, and EXDEV a file in a volume that not everybody may read."""


class Memory:
    """What is kept of an image so far, in bytes: each thing is small, and the sum need not be."""

    __slots__ = ("_kept", "_most", "_what")

    def __init__(self, what: str, most: int = MAX_KEPT) -> None:
        self._what = what
        self._most = most
        self._kept = 0

    def keep(self, size: int) -> None:
        """Count something that will be kept.

        Raises:
            HookError: that is too much.
        """
        self._kept += size
        if self._kept > self._most:
            raise HookError(
                f"{self._what} would need more than {self._most >> 20} MiB of memory",
                code="CDG-K008",
            )


class Library:
    """A name in a folder that leads to a library: the name that programs need it by, and flags.

    `is_link` is true of a link that has that name, or that is for the linker (`libx.so`).
    """

    __slots__ = ("flags", "is_link", "isa_level", "name", "soname")

    def __init__(self, name: str, soname: str, flags: int, isa_level: int, is_link: bool) -> None:
        self.name = name
        self.soname = soname
        self.flags = flags
        self.isa_level = isa_level
        self.is_link = is_link


class Folder:
    """A folder that is open.

    `names` are those that look like libraries, in the directory's own order, and whether each is
    a link; they are there once `list` has been called.
    """

    def __init__(self, rootfs: RootFs, path: str, descriptor: int, until: float) -> None:
        self._rootfs = rootfs
        self._path = path
        self._descriptor = descriptor
        self._until = until
        self._links: dict[str, str] = {}
        self._read: dict[str, elf.SharedLibrary | None] = {}
        self._memory = Memory(f"the libraries in {shown(path)}")
        self.names: dict[str, bool] = {}
        self.has_hwcaps = False

    def list(self, *, hwcaps: bool) -> None:
        """Fill `names`; in a `glibc-hwcaps` folder ldconfig takes a link of any name."""
        self._check_time()
        count = 0
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                name = entry.name
                count += 1
                if count > MAX_NAMES:
                    raise HookError(
                        f"{shown(self._path)} has more than {MAX_NAMES} names", code="CDG-K008"
                    )
                self._memory.keep(OVERHEAD + len(name))
                if _is_library(name):
                    is_link = entry.is_symlink()
                    if is_link or entry.is_file(follow_symlinks=False):
                        self.names[name] = is_link
                elif hwcaps and entry.is_symlink():
                    self.names[name] = True
                elif name == HWCAPS:
                    self.has_hwcaps = True
        for name, text in self._rootfs.planned_links(self._descriptor).items():
            if hwcaps or _is_library(name):
                self.names[name] = True
                self._links[name] = text

    def leads_to(self, name: str) -> str | None:
        """The file in this very folder that a name leads to; None if it is elsewhere or nowhere."""
        for _ in range(MAX_LINKS + 1):
            if not self.names[name]:
                return name
            if name not in self._links:
                self._links[name] = self._text_of(name)
            name = self._links[name]
            if name not in self.names:
                return None
        return None

    def _text_of(self, link: str) -> str:
        try:
            text = os.readlink(link, dir_fd=self._descriptor)
        except OSError:
            return ""
        # A longer one is no name in this folder, and need not be kept.
        text = text if len(text) <= MAX_NAME else ""
        self._memory.keep(OVERHEAD + len(text))
        return text

    def leads_to_content(self, name: str) -> bool:
        """Whether a name leads to a regular file that is not empty, wherever in the container.

        An image that was committed from a container has empty files where a driver was mounted.
        """
        within = self.leads_to(name)
        try:
            if within is None:
                status = self._rootfs.status(f"{self._path}/{name}")
            else:
                status = os.stat(within, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return False
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0

    def library(self, name: str) -> Library | None:
        """What a name is, from its file; None if it is no library of this machine."""
        within = self.leads_to(name)
        if within is None:
            facts = self._facts(name, within=False)
        elif within in self._read:
            facts = self._read[within]
        else:
            facts = self._read[within] = self._facts(within, within=True)
        flags = _flags(facts) if facts else None
        if facts is None or flags is None:
            return None
        soname = name if facts.soname is None else os.fsdecode(facts.soname)
        # Once for what was read, once for what is made of it.
        self._memory.keep(2 * (OVERHEAD + len(soname)))
        # libx.so -> libx.so.1 is an entry of its own; any other link is one more file.
        is_link = self.names[name] and (
            soname == name or (name.endswith(".so") and soname.startswith(name))
        )
        return Library(name, name if is_link else soname, flags, facts.isa_level, is_link)

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            raise HookError(f"not done after {process.SECONDS} s", code="CDG-X005")

    def _facts(self, name: str, *, within: bool) -> elf.SharedLibrary | None:
        self._check_time()
        try:
            if within:
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                place = os.open(name, flags, dir_fd=self._descriptor)
            else:
                place = self._rootfs.find(f"{self._path}/{name}")
            try:
                # What a file of a volume says, everybody will read in the cache.
                if not os.fstat(place).st_mode & stat.S_IROTH:
                    os.close(self._rootfs.find(f"{self._path}/{name}", stay=True))
                file = open_file(place)
            finally:
                os.close(place)
            try:
                return elf.shared_library(file)
            except elf.ElfError:
                return None
            finally:
                os.close(file)
        except OSError as error:
            if error.errno in UNREADABLE:
                return None
            raise


def _is_library(name: str) -> bool:
    if not name.startswith(("lib", "ld")) or name.endswith(".#prelink#"):
        return False
    if name.startswith(("lib", "ld-")):
        return ".so" in name and name[-17:-6] != ".#prelink#."
    return name.startswith(("ld.so.", "ld64.so."))


def _flags(facts: elf.SharedLibrary) -> int | None:
    flags = _FLAGS.get((facts.bits, facts.machine))
    if facts.machine == elf.EM_ARM and flags and facts.flags & _ARM_ABI == _ARM_ABI_5:
        hard, soft = facts.flags & 0x400, facts.flags & 0x200
        return _ARM_FLAGS.get(hard or soft, flags)
    return flags
