# SPDX-License-Identifier: Apache-2.0
"""The device filter of a control group of version 2: a BPF program that allows or denies access.

Another program cannot allow more, because all attached programs must allow an access. So each
attached program is replaced by one that allows the new devices and otherwise runs the instructions
of the old program, which the kernel returns. So nothing else is allowed or denied than before,
whether runc, crun or systemd wrote the old program. Linux 5.6 replaces a program atomically. On an
older kernel the new program is attached beside the old one, and then the old one is detached: at no
time is more allowed than at the end.
"""

from __future__ import annotations

import _struct as struct
import errno
import os

from cdi_base import device_programs, syscalls
from cdi_base.device_programs import ACCESS, ATTACH_TYPE, INSTRUCTION_SIZE, TYPES, attributes
from cdi_base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_LOAD, _ATTACH, _DETACH = 5, 8, 9
_PROGRAM_TYPE = 15
"""BPF_PROG_TYPE_CGROUP_DEVICE"""
_ALLOW_MULTI, _REPLACE = 2, 4

ALL_ACCESS = 7

_LOAD_IMMEDIATE, _CALL = 0x18, 0x85
_BLINDING = 11
"""A register of the kernel. If the kernel blinds constants (net.core.bpf_jit_harden), the returned
instructions use this register, and the kernel would not load them."""
_SPARE = (9, 8, 7, 6)
_CLEARED = {0xAF: 0xB7, 0xAC: 0xB4}
"""Blinding also turns `r = 0` into `r ^= r`, which the kernel rejects if r has no value yet."""


class Rule:
    """A device to allow, and the access to it."""

    __slots__ = ("access", "kind", "major", "minor", "node")

    def __init__(self, kind: str, major: int, minor: int, access: str, node: str = "") -> None:
        self.kind = kind
        """b or c"""
        self.major = major
        self.minor = minor
        self.access = access
        """Letters of r, w and m."""
        self.node = node
        """The path of the host's device node; empty if the host has none."""


class FilterError(HookError):
    """A device filter cannot be replaced; no filter allows more than before."""

    code = "CDG-T202"


def allow(group: int, rules: Sequence[Rule], unchanged: Collection[int] = ()) -> None:
    """Make all filters of a control group allow the devices, too.

    A group without filters denies nothing, and nothing is done.

    Args:
        group: a descriptor of the group's directory.
        rules: the devices.
        unchanged: ids of programs that allow the devices already.

    Raises:
        FilterError: the kernel refuses, or a program is not one that a runtime or systemd writes.
    """
    try:
        ids, flags = device_programs.attached(group)
        for program_id in ids:
            if program_id in unchanged:
                continue
            old = device_programs.open_by_id(program_id)
            new = _load(*_replacement(old, rules))
            _replace(group, old, new, flags)
            os.close(old)
            os.close(new)
    except OSError as error:
        raise FilterError(
            f"cannot replace the container's device filter: {error.strerror}"
        ) from None


def prologue(rules: Iterable[Rule]) -> bytes:
    """Return instructions that allow what a rule allows, and otherwise continue with the next.

    They keep register 1, the context. The other registers have no value when a program begins.
    """
    start = (
        (0x61, 2, 1, 0, 0),  # r2 = context.access_type
        (0xBF, 3, 2, 0, 0),
        (0x57, 2, 0, 0, 0xFFFF),  # r2: the type
        (0x77, 3, 0, 0, 16),  # r3: the access
        (0x61, 4, 1, 4, 0),  # r4 = context.major
        (0x61, 5, 1, 8, 0),  # r5 = context.minor
    )
    instructions = list(start)
    for rule in rules:
        denied = ALL_ACCESS & ~sum(ACCESS[letter] for letter in set(rule.access))
        instructions += (
            (0x55, 2, 0, 7, TYPES[rule.kind]),  # another type: go to the next rule
            (0x55, 4, 0, 6, rule.major),
            (0x55, 5, 0, 5, rule.minor),
            (0xBF, 0, 3, 0, 0),
            (0x57, 0, 0, 0, denied),
            (0x55, 0, 0, 2, 0),  # more access than the rule allows
            (0xB7, 0, 0, 0, 1),
            (0x95, 0, 0, 0, 0),  # return 1: allowed
        )
    return b"".join(_instruction(*instruction) for instruction in instructions)


def loadable(program: bytes) -> bytes:
    """Return a program that the kernel has returned in a form that the kernel loads again.

    Raises:
        FilterError: the program uses maps or calls functions, which that of no runtime does.
    """
    instructions = [
        list(struct.unpack_from("=BBhi", program, offset))
        for offset in range(0, len(program), INSTRUCTION_SIZE)
    ]
    used = {
        register
        for _, registers, *_ in instructions
        for register in (registers & 15, registers >> 4)
    }
    spare = [register for register in _SPARE if register not in used]
    for instruction in instructions:
        code, registers, _, _ = instruction
        target, source = registers & 15, registers >> 4
        if code == _CALL or (code == _LOAD_IMMEDIATE and source):
            raise FilterError(
                "the container's device filter is not only a list of rules: it calls a function or "
                "uses a map"
            )
        if _BLINDING in {target, source}:
            if not spare:
                raise FilterError("the container's device filter uses all registers")
            target = spare[0] if target == _BLINDING else target
            source = spare[0] if source == _BLINDING else source
            instruction[1] = target | source << 4
        elif code in _CLEARED and target == source:
            instruction[:2] = _CLEARED[code], target
    return b"".join(struct.pack("=BBhi", *instruction) for instruction in instructions)


def _instruction(code: int, target: int, source: int, offset: int, value: int) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _replacement(old: int, rules: Sequence[Rule]) -> tuple[bytes, bytes]:
    """Return the new program and its licence."""
    description = device_programs.describe(old)
    program = device_programs.instructions(old, description.size) if description.size else None
    if program is None:
        raise FilterError("the kernel does not show the container's device filter")
    licence = b"GPL\0" if description.is_gpl_compatible else b"Apache-2.0\0"
    return prologue(rules) + loadable(program), licence


def _load(program: bytes, licence: bytes) -> int:
    # The buffers live until the call returns.
    instructions, licence_text = bytearray(program), bytearray(licence)
    addresses = syscalls.address(instructions), syscalls.address(licence_text)
    count = len(instructions) // INSTRUCTION_SIZE
    return syscalls.bpf(_LOAD, attributes("IIQQ", _PROGRAM_TYPE, count, *addresses))


def _replace(group: int, old: int, new: int, flags: int) -> None:
    if not flags & _ALLOW_MULTI:
        # Without the flag a group has only one program, and attaching another replaces it.
        _attach(group, new, flags)
        return
    try:
        _attach(group, new, flags | _REPLACE, old)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _attach(group, new, flags)
        syscalls.bpf(_DETACH, attributes("III", group, old, ATTACH_TYPE))


def _attach(group: int, program: int, flags: int, old: int = 0) -> None:
    syscalls.bpf(_ATTACH, attributes("IIIII", group, program, ATTACH_TYPE, flags, old))
