# SPDX-License-Identifier: Apache-2.0
"""Reads the BPF programs of control groups of version 2, which allow or deny access to devices.

A group can have several programs, and an access needs the consent of all of them, and of those of
the groups above.
"""

from __future__ import annotations

import _struct as struct

from cdi_base import syscalls

MAX_PROGRAMS = 64
"""The kernel's limit for a group, `BPF_CGROUP_MAX_PROGS`."""
MAX_EFFECTIVE_PROGRAMS = 512
"""The largest number of programs of a group and of the groups above that are read."""
MAX_INSTRUCTIONS = 65_536
INSTRUCTION_SIZE = 8

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}

ATTACH_TYPE = 6
"""BPF_CGROUP_DEVICE"""

_OPEN_BY_ID, _INFORMATION, _QUERY = 13, 15, 16
_QUERY_EFFECTIVE = 1
_ATTRIBUTES = 144

_GPL_COMPATIBLE = 1
"""The first bit after `ifindex` in struct bpf_prog_info."""


class Program:
    """What the kernel tells about a program."""

    __slots__ = ("is_gpl_compatible", "size", "tag")

    def __init__(self, tag: bytes, size: int, *, is_gpl_compatible: bool) -> None:
        self.tag = tag
        """A hash of the instructions."""
        self.size = size
        """Of the instructions, in bytes; 0 if the kernel does not show them."""
        self.is_gpl_compatible = is_gpl_compatible


def attached(group: int, *, effective: bool = False) -> tuple[list[int], int]:
    """Return the ids of the programs that are attached to a group, and the attach flags.

    Args:
        group: a descriptor of the group's directory.
        effective: also the programs of the groups above; the flags are then 0.

    Raises:
        OSError: the kernel refuses the query.
    """
    most = MAX_EFFECTIVE_PROGRAMS if effective else MAX_PROGRAMS
    ids = bytearray(4 * most)
    flags = _QUERY_EFFECTIVE if effective else 0
    address = syscalls.address(ids)
    query = attributes("IIIIQI", group, ATTACH_TYPE, flags, 0, address, most)
    syscalls.bpf(_QUERY, query)
    attach_flags = struct.unpack_from("I", query, 12)[0]
    count = struct.unpack_from("I", query, 24)[0]
    return list(struct.unpack_from(f"{count}I", ids)), attach_flags


def open_by_id(program_id: int) -> int:
    """Return a descriptor of a program.

    Raises:
        OSError: the kernel refuses; ENOENT: the program is gone.
    """
    return syscalls.bpf(_OPEN_BY_ID, attributes("I", program_id))


def describe(program: int) -> Program:
    """Return what the kernel tells about a program without its instructions.

    Raises:
        OSError: the kernel refuses.
    """
    information = bytearray(128)
    _query(program, information)
    bits = struct.unpack_from("I", information, 84)[0]
    size = struct.unpack_from("I", information, 20)[0]
    is_shown = 0 < size <= MAX_INSTRUCTIONS * INSTRUCTION_SIZE
    return Program(
        bytes(information[8:16]),
        size if is_shown else 0,
        is_gpl_compatible=bool(bits & _GPL_COMPATIBLE),
    )


def instructions(program: int, size: int) -> bytes | None:
    """Return the instructions of a program; None if the kernel does not show them.

    Raises:
        OSError: the kernel refuses.
    """
    text = bytearray(size)
    information = bytearray(128)
    struct.pack_into("I", information, 20, size)
    struct.pack_into("Q", information, 32, syscalls.address(text))
    _query(program, information)
    if struct.unpack_from("Q", information, 32)[0] == 0:
        return None
    return bytes(text)


def attributes(layout: str, *values: int) -> bytearray:
    """Return a `bpf_attr`, as large as that of later kernels.

    Some kernels write results beyond the size that the caller gives.
    """
    return bytearray(struct.pack(layout, *values).ljust(_ATTRIBUTES, b"\0"))


def _query(program: int, information: bytearray) -> None:
    address = syscalls.address(information)
    syscalls.bpf(_INFORMATION, attributes("IIQ", program, len(information), address))
