# SPDX-License-Identifier: Apache-2.0
"""Reads a directory of libraries as glibc's ldconfig does."""

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
    from collections.abc import Iterable, Iterator

    from cdi_base.rootfs.rootfs import RootFs

HWCAPS = "glibc-hwcaps"

MAX_KEPT = 48 << 20
"""The largest memory for one directory; a directory of 20,000 libraries needs 10 MiB."""

OVERHEAD = 150
"""The bytes that Python needs for a name in a table, in addition to its letters."""

MAX_FILES = 1024
"""Files whose facts are kept for other directories."""

MAX_NAME = 255
"""The longest file name in bytes (NAME_MAX)."""

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
"""The libraries that the loaders of this machine accept. glibc's own ldconfig on aarch64 ignores
the machine in the header, and lists an x86 library as an aarch64 one; this module does not."""

_ARM_ABI, _ARM_ABI_5 = 0xFF000000, 0x05000000
_ARM_FLAGS = {0x200: 0x0B00 | _LIBC6, 0x400: 0x0900 | _LIBC6}
"""By the float ABI in the header of a 32-bit ARM library: soft, hard."""

FLAGS = frozenset((*_FLAGS.values(), *_ARM_FLAGS.values()))
"""The possible flags of an entry; empty on an unknown machine."""

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
"""Errors of files that are ignored, as by ldconfig. EINVAL is a file that is never opened: a pipe,
a device, or in a file system of the kernel. EXDEV is a file in a volume that is not readable by all
users."""


class Memory:
    """Counts the bytes that are kept of an image: many small values can add up to much memory."""

    __slots__ = ("_kept", "_most", "_subject")

    def __init__(self, subject: str, most: int = MAX_KEPT) -> None:
        self._subject = subject
        self._most = most
        self._kept = 0

    def keep(self, size: int) -> None:
        """Count a value that is kept.

        Raises:
            HookError: the values need too much memory.
        """
        self._kept += size
        if self._kept > self._most:
            raise HookError(
                f"{self._subject} would need more than {self._most >> 20} MiB of memory",
                code="CDG-K008",
            )


class Library:
    """A name in a directory that leads to a library, with its SONAME and flags.

    `is_link` is whether it is a link with the SONAME as its name, or for the linker (`libx.so`).
    """

    __slots__ = ("flags", "is_link", "isa_level", "name", "soname")

    def __init__(self, name: str, soname: str, flags: int, isa_level: int, is_link: bool) -> None:
        self.name = name
        self.soname = soname
        self.flags = flags
        self.isa_level = isa_level
        self.is_link = is_link


Files = dict[object, "elf.SharedLibrary | None"]
"""What was read from files, by device and inode, or by an absolute path that a link has: links of
several directories lead to one file."""


class Folder:
    """An open directory.

    `names` are the names of libraries, in the directory's own order, and whether each is a link;
    `list` sets them.
    """

    def __init__(
        self,
        rootfs: RootFs,
        path: str,
        descriptor: int,
        until: float,
        files: Files | None = None,
    ) -> None:
        self._rootfs = rootfs
        self._path = path
        self._descriptor = descriptor
        self._until = until
        self._links: dict[str, str] = {}
        self._read: dict[str, elf.SharedLibrary | None] = {}
        self._files: Files = {} if files is None else files
        self._with_content: set[str] = set()
        self._memory = Memory(f"the libraries in {shown(path)}")
        self.names: dict[str, bool] = {}
        self.own_links: dict[str, str] = {}
        self.has_hwcaps = False

    def list(self, *, hwcaps: bool) -> None:
        """Set `names`; in a `glibc-hwcaps` directory ldconfig accepts links of any name."""
        self._check_time()
        count = size = 0
        names = self.names
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                name = entry.name
                count += 1
                if count > MAX_NAMES:
                    raise HookError(
                        f"{shown(self._path)} has more than {MAX_NAMES} names", code="CDG-K008"
                    )
                size += len(name)
                if is_library(name):
                    if entry.is_symlink():
                        names[name] = True
                    elif entry.is_file(follow_symlinks=False):
                        names[name] = False
                elif hwcaps and entry.is_symlink():
                    names[name] = True
                elif name == HWCAPS:
                    self.has_hwcaps = True
        # All names that are allowed in a directory take half of the limit.
        self._memory.keep(OVERHEAD * count + size)
        self.own_links = self._rootfs.own_links(self._descriptor)
        for name, text in self.own_links.items():
            if hwcaps or is_library(name):
                self.names[name] = True
                self._links[name] = text

    def leads_to(self, name: str) -> str | None:
        """Return the file in this directory that a name leads to; None if the file is not in it."""
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
        # A longer text is not a name in this directory, and is not kept.
        text = text if len(text) <= MAX_NAME else ""
        self._memory.keep(OVERHEAD + len(text))
        return text

    def leads_to_content(self, name: str) -> bool:
        """Whether a name leads to a regular file that is not empty, anywhere in the container.

        An image that was committed from a container has empty files in place of the driver's.
        """
        file_name = self.leads_to(name) if self.names[name] else name
        if file_name is not None:
            return self.has_content(file_name)
        try:
            status = self._rootfs.status(f"{self._path}/{name}")
        except OSError:
            return False
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0

    def with_content(self, candidates: Iterable[str]) -> Iterator[str]:
        """Yield the names that lead to content; the same as `leads_to_content` for each."""
        names, links = self.names, self._links
        for name in candidates:
            file_name = name
            if names[name]:
                file_name = links[name] if name in links else self._text_of(name)
                links[name] = file_name
            if names.get(file_name) is False:
                if file_name in self._with_content or self.has_content(file_name):
                    yield name
            elif self.leads_to_content(name):
                yield name

    def has_content(self, file_name: str) -> bool:
        """Whether a name of this directory is a regular file, no link, that is not empty."""
        if file_name in self._with_content:
            return True
        try:
            status = os.stat(file_name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            return False
        self._with_content.add(file_name)
        return True

    def library(self, name: str) -> Library | None:
        """Return the library of a name, read from its file; None if it is not for this machine."""
        file_name = self.leads_to(name)
        if file_name is None:
            facts = self._facts_elsewhere(name)
        elif file_name in self._read:
            facts = self._read[file_name]
        else:
            facts = self._read[file_name] = self._facts(file_name, within=True)
        flags = _flags(facts) if facts else None
        if facts is None or flags is None:
            return None
        soname = name if facts.soname is None else os.fsdecode(facts.soname)
        # Once in the facts of the file, once in the result.
        self._memory.keep(2 * (OVERHEAD + len(soname)))
        # libx.so -> libx.so.1 is a separate entry; any other link counts as a file.
        is_link = self.names[name] and (
            soname == name or (name.endswith(".so") and soname.startswith(name))
        )
        return Library(name, name if is_link else soname, flags, facts.isa_level, is_link)

    def _facts_elsewhere(self, link: str) -> elf.SharedLibrary | None:
        """Return the facts of the file in another directory that a link leads to."""
        text = self._links.get(link, "")
        if text in self._files:
            return self._files[text]
        facts = self._facts(link, within=False)
        if text.startswith("/"):
            self._keep(text, facts)
        return facts

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            raise HookError(f"not done after {process.SECONDS} s", code="CDG-X005")

    def _facts(self, name: str, *, within: bool) -> elf.SharedLibrary | None:
        self._check_time()
        try:
            if within:
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=self._descriptor)
            else:
                descriptor = self._rootfs.find(f"{self._path}/{name}")
            try:
                status = os.fstat(descriptor)
                # The cache, which all users can read, must not reveal a private file of a volume.
                if not status.st_mode & stat.S_IROTH:
                    os.close(self._rootfs.find(f"{self._path}/{name}", stay=True))
                identity = (status.st_dev, status.st_ino)
                if identity in self._files:
                    return self._files[identity]
                file = open_file(descriptor)
            finally:
                os.close(descriptor)
            try:
                facts = elf.shared_library(file)
            except elf.ElfError:
                facts = None
            finally:
                os.close(file)
            self._keep(identity, facts)
        except OSError as error:
            if error.errno in UNREADABLE:
                return None
            raise
        return facts

    def _keep(self, file: object, facts: elf.SharedLibrary | None) -> None:
        soname = facts.soname if facts else None
        if len(self._files) < MAX_FILES and (soname is None or len(soname) <= MAX_NAME):
            self._files[file] = facts


def is_library(name: str) -> bool:
    """Whether ldconfig takes a name for that of a library."""
    if ".so" not in name or not name.startswith(("lib", "ld-", "ld.so.", "ld64.so.")):
        return False
    return "#" not in name or not (name.endswith(".#prelink#") or _is_prelinks_own(name))


def _is_prelinks_own(name: str) -> bool:
    return name.startswith(("lib", "ld-")) and name[-17:-6] == ".#prelink#."


def _flags(facts: elf.SharedLibrary) -> int | None:
    flags = _FLAGS.get((facts.bits, facts.machine))
    if facts.machine == elf.EM_ARM and flags and facts.flags & _ARM_ABI == _ARM_ABI_5:
        hard, soft = facts.flags & 0x400, facts.flags & 0x200
        return _ARM_FLAGS.get(hard or soft, flags)
    return flags
