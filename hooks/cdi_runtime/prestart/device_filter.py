# SPDX-License-Identifier: Apache-2.0
"""The device filter of a control group of version 2: a BPF program that says yes or no.

A filter cannot be added to: of several programs each must say yes. So each that is attached is
replaced by one that says yes to the container's new devices and else does what the old one did,
instruction by instruction, as the kernel gives them back. Whoever made the old one, runc, crun or
systemd, and whatever its rules are: nothing else is allowed or forbidden than before. The kernel
replaces it in one step (Linux 5.6); before, the new one is attached beside the old one, and then
the old one is taken away: at no time is more allowed than at the end.
"""

from __future__ import annotations

import errno
import os
import struct

from cdi_base import syscalls
from cdi_base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

MAX_PROGRAMS = 64
"""As the kernel has it (`BPF_CGROUP_MAX_PROGS`)."""
MAX_INSTRUCTIONS = 65_536

_LOAD, _ATTACH, _DETACH, _BY_NUMBER, _INFORMATION, _QUERY = 5, 8, 9, 13, 15, 16
_KIND, _PLACE = 15, 6
"""BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE"""
_ALLOW_MULTI, _REPLACE = 2, 4

_GPL_COMPATIBLE = 1
"""The first bit behind `ifindex` of struct bpf_prog_info."""

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}
ALL_ACCESS = 7

_SIZE = 8
_ATTRIBUTES = 144
_LOAD_IMMEDIATE, _CALL = 0x18, 0x85
_BLINDING = 11
"""The register of the kernel's own; a program that it has blinded (net.core.bpf_jit_harden) shows
it, and would not be taken with it."""
_SPARE = (9, 8, 7, 6)
_CLEARED = {0xAF: 0xB7, 0xAC: 0xB4}
"""By blinding too, `r = 0` becomes `r ^= r`, which is refused where r holds nothing yet."""


class Rule:
    """Devices that are to be allowed."""

    __slots__ = ("access", "kind", "major", "minor", "node")

    def __init__(self, kind: str, major: int, minor: int, access: str, node: str = "") -> None:
        self.kind = kind
        """b or c"""
        self.major = major
        self.minor = minor
        self.access = access
        """Of r, w and m."""
        self.node = node
        """Where the host has such a device; empty if it has none."""


class FilterError(HookError):
    """A device filter that cannot be replaced; all of them are as they were, or narrower."""

    code = "CDG-T202"


def attached(group: int) -> tuple[list[int], int]:
    """The numbers of the programs at a group itself, and how they are attached.

    Raises:
        OSError: the kernel will not say.
    """
    numbers = bytearray(4 * MAX_PROGRAMS)
    question = _attributes("IIIIQI", group, _PLACE, 0, 0, syscalls.address(numbers), MAX_PROGRAMS)
    syscalls.bpf(_QUERY, question)
    flags = struct.unpack_from("I", question, 12)[0]
    count = struct.unpack_from("I", question, 24)[0]
    return list(struct.unpack_from(f"{count}I", numbers)), flags


def allow(group: int, rules: Sequence[Rule], known_to_allow: Collection[int] = ()) -> None:
    """Have all filters of a control group allow the devices as well.

    Where none is attached, nothing is forbidden, and nothing is done.

    Args:
        group: a descriptor of the group's directory.
        rules: what to allow.
        known_to_allow: numbers of programs that do so already.

    Raises:
        FilterError: the kernel refuses, or a program is one that no runtime writes.
    """
    try:
        numbers, flags = attached(group)
        for number in numbers:
            if number in known_to_allow:
                continue
            old = syscalls.bpf(_BY_NUMBER, _attributes("I", number))
            new = _load(*_replacement(old, rules))
            _replace(group, old, new, flags)
            os.close(old)
            os.close(new)
    except OSError as error:
        raise FilterError(f"the container's device filter: {error.strerror}") from None


def beginning(rules: Iterable[Rule]) -> bytes:
    """Instructions that end with yes for what a rule allows, and else change nothing.

    Register 1, the question, is kept; none of the others holds anything when a program begins.
    """
    start = (
        (0x61, 2, 1, 0, 0),  # r2 = question.access_type
        (0xBF, 3, 2, 0, 0),
        (0x57, 2, 0, 0, 0xFFFF),  # r2: the type
        (0x77, 3, 0, 0, 16),  # r3: the access
        (0x61, 4, 1, 4, 0),  # r4 = question.major
        (0x61, 5, 1, 8, 0),  # r5 = question.minor
    )
    lines = list(start)
    for rule in rules:
        forbidden = ALL_ACCESS & ~sum(ACCESS[letter] for letter in set(rule.access))
        lines += (
            (0x55, 2, 0, 7, TYPES[rule.kind]),  # another type: to the next rule
            (0x55, 4, 0, 6, rule.major),
            (0x55, 5, 0, 5, rule.minor),
            (0xBF, 0, 3, 0, 0),
            (0x57, 0, 0, 0, forbidden),
            (0x55, 0, 0, 2, 0),  # more than is allowed
            (0xB7, 0, 0, 0, 1),
            (0x95, 0, 0, 0, 0),  # yes
        )
    return b"".join(_instruction(*line) for line in lines)


def loadable(program: bytes) -> bytes:
    """A program that the kernel gave back, so that it takes it again.

    Raises:
        FilterError: it uses maps or calls functions; no runtime's does.
    """
    lines = [list(struct.unpack_from("=BBhi", program, at)) for at in range(0, len(program), _SIZE)]
    used = {register for _, both, *_ in lines for register in (both & 15, both >> 4)}
    spare = [register for register in _SPARE if register not in used]
    for line in lines:
        code, both, _, _ = line
        if code == _CALL or (code == _LOAD_IMMEDIATE and both >> 4):
            raise FilterError("the container's device filter is more than a list of rules")
        target, source = both & 15, both >> 4
        if _BLINDING in {target, source}:
            if not spare:
                raise FilterError("the container's device filter uses all registers")
            target = spare[0] if target == _BLINDING else target
            source = spare[0] if source == _BLINDING else source
            line[1] = target | source << 4
        elif code in _CLEARED and target == source:
            line[:2] = _CLEARED[code], target
    return b"".join(struct.pack("=BBhi", *line) for line in lines)


def _instruction(code: int, target: int, source: int, offset: int, value: int) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _replacement(old: int, rules: Sequence[Rule]) -> tuple[bytes, bytes]:
    """The new program, and the words of its licence."""
    # Asked twice: how long it is, then for the instructions. A map's numbers are not asked for.
    information = bytearray(128)
    _ask(old, information)
    size = struct.unpack_from("I", information, 20)[0]
    if not 0 < size <= MAX_INSTRUCTIONS * _SIZE:
        raise FilterError("the kernel does not show the container's device filter")
    text = bytearray(size)
    information = bytearray(128)
    struct.pack_into("I", information, 20, size)
    struct.pack_into("Q", information, 32, syscalls.address(text))
    _ask(old, information)
    if struct.unpack_from("Q", information, 32)[0] == 0:
        raise FilterError("the kernel does not show the container's device filter")
    bits = struct.unpack_from("I", information, 84)[0]
    licence = b"GPL\0" if bits & _GPL_COMPATIBLE else b"Apache-2.0\0"
    return beginning(rules) + loadable(bytes(text)), licence


def _ask(program: int, information: bytearray) -> None:
    place = syscalls.address(information)
    syscalls.bpf(_INFORMATION, _attributes("IIQ", program, len(information), place))


def _load(program: bytes, licence: bytes) -> int:
    text, words = bytearray(program), bytearray(licence)
    places = syscalls.address(text), syscalls.address(words)
    return syscalls.bpf(_LOAD, _attributes("IIQQ", _KIND, len(text) // _SIZE, *places))


def _replace(group: int, old: int, new: int, flags: int) -> None:
    if not flags & _ALLOW_MULTI:
        # The only one there can be: attaching another replaces it.
        _attach(group, new, flags)
        return
    try:
        _attach(group, new, flags | _REPLACE, old)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _attach(group, new, flags)
        syscalls.bpf(_DETACH, _attributes("III", group, old, _PLACE))


def _attach(group: int, program: int, flags: int, old: int = 0) -> None:
    syscalls.bpf(_ATTACH, _attributes("IIIII", group, program, _PLACE, flags, old))


def _attributes(form: str, *values: int) -> bytearray:
    """The call's attributes, with room for what later kernels answer beside it.

    They write behind the size that they are told.
    """
    return bytearray(struct.pack(form, *values).ljust(_ATTRIBUTES, b"\0"))
