# SPDX-License-Identifier: Apache-2.0
"""Reads shared libraries and programs of a driver by path, with names as text."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from cdi_base import elf
from cdi_base.elf import ElfError
from cdi_base.files import NotRegularError, open_regular

_Facts = TypeVar("_Facts")

MACHINES = {
    "x86_64": frozenset({elf.EM_X86_64, elf.EM_386}),
    "aarch64": frozenset({elf.EM_AARCH64, elf.EM_ARM}),
    "ppc64le": frozenset({elf.EM_PPC64, elf.EM_PPC}),
}
"""``e_machine`` of the 64-bit and 32-bit libraries of an architecture, as ``uname -m`` names it."""


class SharedLibrary(NamedTuple):
    """The facts of the dynamic section, with printable names."""

    bits: int
    machine: int
    soname: str | None
    needed: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """The library's architecture, as ``uname -m`` prints it."""
        for name, machines in MACHINES.items():
            if self.machine in machines:
                return name
        return f"ELF machine {self.machine}"


def read(path: str) -> SharedLibrary:
    """Return the facts of a shared library.

    Raises:
        ElfError: the file is not a shared library, is damaged, or has an unprintable name.
        OSError: the file cannot be read.
    """
    library = _of_file(path, _library)
    soname = None if library.soname is None else _text(library.soname)
    return SharedLibrary(library.bits, library.machine, soname, tuple(map(_text, library.needed)))


def search_path(path: str) -> tuple[str, ...]:
    """Return the directories that the loader searches first for a program's libraries.

    Raises:
        ElfError: the program is not linked dynamically; or as `read`.
        OSError: the file cannot be read.
    """
    return tuple(_text(name, elf.MAX_SEARCH_PATH) for name in _of_file(path, elf.search_path))


def is_elf(path: str) -> bool:
    """Whether a file is ELF, and not a script.

    Raises:
        ElfError: the file is not a regular file.
        OSError: the file cannot be read.
    """
    return _of_file(path, elf.is_elf)


def _library(descriptor: int) -> elf.SharedLibrary:
    return elf.shared_library(descriptor, dependencies=True)


def _of_file(path: str, read_descriptor: Callable[[int], _Facts]) -> _Facts:
    try:
        descriptor = open_regular(path)
    except NotRegularError as error:
        raise ElfError("not a regular file") from error
    try:
        return read_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _text(name: bytes, limit: int = elf.MAX_NEEDED) -> str:
    if name.isascii() and len(name) <= limit:
        text = name.decode("ascii")
        if text.isprintable():
            return text
    raise ElfError("with an unreadable name")
