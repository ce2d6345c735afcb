# SPDX-License-Identifier: Apache-2.0
"""Interprets the BPF program of a control group for one access to a device; pure.

The programs of runc, crun and systemd compare the fields of their context with numbers: they call
no function and use no map. A program that does is not interpreted; the answer is then unknown.
Nothing is opened and no process is moved, so an answer has no effect on the container.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from cdi_base.device_programs import ACCESS, INSTRUCTION_SIZE, TYPES

MAX_STEPS = 100_000
"""Far more than a program without loops needs for 100 rules."""

_REGISTERS = 12
"""The last one is the kernel's own, for constants that it blinds (net.core.bpf_jit_harden)."""
_WORD, _DOUBLE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF

_LDX, _ALU, _JMP, _JMP32, _ALU64 = 1, 4, 5, 6, 7
_LOAD_IMMEDIATE, _EXIT, _CALL = 0x18, 0x90, 0x80
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_MEMORY = 0x60

_OPERATIONS: dict[int, Callable[[int, int, int], int]] = {
    0x00: lambda a, b, _: a + b,
    0x10: lambda a, b, _: a - b,
    0x20: lambda a, b, _: a * b,
    0x40: lambda a, b, _: a | b,
    0x50: lambda a, b, _: a & b,
    0x60: lambda a, b, bits: a << (b % bits),
    0x70: lambda a, b, bits: a >> (b % bits),
    0xA0: lambda a, b, _: a ^ b,
    0xB0: lambda _, b, __: b,
}
"""The arithmetic by the high bits of the code: add, sub, mul, or, and, lsh, rsh, xor, mov."""

_COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    0x10: lambda a, b: a == b,
    0x20: lambda a, b: a > b,
    0x30: lambda a, b: a >= b,
    0x40: lambda a, b: bool(a & b),
    0x50: lambda a, b: a != b,
    0xA0: lambda a, b: a < b,
    0xB0: lambda a, b: a <= b,
}


class NotInterpretedError(Exception):
    """The program does what device rules do not need."""


def allows(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Return whether a program allows an access.

    Args:
        program: its instructions, as the kernel returns them.
        kind: b or c.
        major: of the device.
        minor: of the device.
        access: letters of r, w and m.

    Raises:
        NotInterpretedError: the program has an instruction that device rules do not need.
    """
    wanted = sum(ACCESS[letter] for letter in set(access))
    context = struct.pack("=III", wanted << 16 | TYPES[kind], major, minor)
    return _run(program, context) != 0


def _run(program: bytes, context: bytes) -> int:
    lines = [*struct.iter_unpack("=BBhi", program[: len(program) // INSTRUCTION_SIZE * 8])]
    # A register holds a number, or None: the address of the context.
    registers: list[int | None] = [0] * _REGISTERS
    registers[1] = None
    at = 0
    for _ in range(MAX_STEPS):
        if not 0 <= at < len(lines):
            raise NotInterpretedError("it ends without a result")
        code, both, offset, value = lines[at]
        target, source = both & 15, both >> 4
        if max(target, source) >= _REGISTERS:
            raise NotInterpretedError("it has an unknown register")
        kind = code & 7
        at += 1
        if code == _LOAD_IMMEDIATE and not source and at < len(lines):
            registers[target] = (value & _WORD) | (lines[at][3] & _WORD) << 32
            at += 1
        elif kind == _LDX:
            registers[target] = _load(code, registers[source], offset, context)
        elif kind in {_ALU, _ALU64}:
            operand = registers[source] if code & 8 else value
            registers[target] = _calculated(code, registers[target], operand)
        elif kind in {_JMP, _JMP32}:
            operation = code & 0xF0
            if operation == _EXIT:
                result = registers[0]
                if result is None:
                    raise NotInterpretedError("its result is an address")
                return result & _WORD
            if operation == 0:
                at += offset
                continue
            operand = registers[source] if code & 8 else value
            at += offset if _compared(code, registers[target], operand) else 0
        else:
            raise NotInterpretedError(f"it has an instruction {code:#04x}")
    raise NotInterpretedError("it does not end")


def _load(code: int, base: int | None, offset: int, context: bytes) -> int:
    size = _SIZES[code & 0x18]
    if code & 0xE0 != _MEMORY or base is not None or not 0 <= offset <= len(context) - size:
        raise NotInterpretedError("it reads something else than the access")
    return int.from_bytes(context[offset : offset + size], "little")


def _calculated(code: int, left: int | None, right: int | None) -> int | None:
    operation = code & 0xF0
    is_wide = code & 7 == _ALU64
    if operation == 0xB0 and is_wide and right is None:
        return None  # a copy of the address
    function = _OPERATIONS.get(operation)
    if right is None or function is None or (left is None and operation != 0xB0):
        raise NotInterpretedError(f"it has an operation {code:#04x}")
    mask = _DOUBLE if is_wide else _WORD
    return function((left or 0) & mask, right & mask, 64 if is_wide else 32) & mask


def _compared(code: int, left: int | None, right: int | None) -> bool:
    function = _COMPARISONS.get(code & 0xF0)
    if code & 0xF0 == _CALL or function is None or left is None or right is None:
        raise NotInterpretedError(f"it has a jump {code:#04x}, or calls a function")
    mask = _WORD if code & 7 == _JMP32 else _DOUBLE
    return function(left & mask, right & mask)
