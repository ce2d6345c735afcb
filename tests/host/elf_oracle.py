# SPDX-License-Identifier: Apache-2.0
"""The driver's libraries as an independent reader and an independent search see them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE

from tests.fakehost.hosts import FakeHost


class Elf(NamedTuple):
    """What pyelftools reads of a shared library."""

    bits: int
    machine: int
    soname: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    is_library: bool
    """Whether it can be loaded at any address, as a position-independent program can be, too."""


def read(path: str) -> Elf | None:
    """None for a file that is no shared library."""
    status = os.stat(path)
    return _read(path, status.st_dev, status.st_ino)


@lru_cache(maxsize=4096)  # the hosts share their files by hard links
def _read_inode(device: int, inode: int) -> Elf | None:
    path = _PATHS[device, inode]
    with open(path, "rb") as file:
        try:
            elf = ELFFile(file)
        except ELFError:
            return None
        for segment in elf.iter_segments("PT_DYNAMIC"):
            assert isinstance(segment, DynamicSegment)
            # pyelftools names the attribute after the tag; its types do not say so.
            tags: list[Any] = list(segment.iter_tags())
            sonames = [tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"]
            needed = tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED")
            paths = [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
            paths += [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
            absolute = (each for path in paths for each in path.split(":") if each[:1] == "/")
            return Elf(
                elf.elfclass,
                ENUM_E_MACHINE[elf.header["e_machine"]],
                sonames[0] if sonames else None,
                needed,
                tuple(absolute),
                elf.header["e_type"] == "ET_DYN",
            )
    return None


_PATHS: dict[tuple[int, int], str] = {}


def _read(path: str, device: int, inode: int) -> Elf | None:
    _PATHS.setdefault((device, inode), path)
    return _read_inode(device, inode)


# Those whose files carry a version of their own, by NVIDIA's package lists.
OWN_VERSION = re.compile(
    r"libnvidia-(?:api|egl-gbm|egl-wayland|nvvm|nvvm70)\.so(?:\.\d{1,2})(?:\.\d+)*"
)


def driver_libraries(fake: FakeHost) -> dict[str, Elf]:
    """Every ELF library of the driver's version anywhere on the host, by its path there."""
    versioned = re.compile(rf"lib[\w-]+\.so\.{re.escape(fake.driver_version)}")
    found = {}
    for directory, directories, names in os.walk(fake.root):
        if directory == str(fake.root):
            directories[:] = sorted(set(directories) - {"proc", "sys", "dev"})
        for name in names:
            path = f"{directory}/{name}"
            if not (versioned.fullmatch(name) or OWN_VERSION.fullmatch(name)):
                continue
            if not os.path.islink(path) and (elf := read(path)) is not None:
                found[path.removeprefix(str(fake.root))] = elf
    return found
