# SPDX-License-Identifier: Apache-2.0
"""Programs that filter devices, interpreted as the kernel runs them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_gen.containers.device_program import NotInterpretedError, allows
from cdi_runtime.prestart.device_filter import Rule, prologue

KINDS = st.sampled_from("bc")
NUMBERS = st.integers(0, 3) | st.integers(0, (1 << 20) - 1)
ACCESS = st.lists(st.sampled_from("rwm"), min_size=1).map("".join)
RULES = st.builds(Rule, KINDS, NUMBERS, NUMBERS, ACCESS)


def line(code: int, target: int = 0, source: int = 0, value: int = 0, offset: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


YES = line(0xB7, value=1) + line(0x95)
NO = line(0xB7) + line(0x95)


@given(st.lists(RULES, max_size=4), KINDS, NUMBERS, NUMBERS, ACCESS)
def test_rules_are_followed(
    rules: list[Rule], kind: str, major: int, minor: int, access: str
) -> None:
    expected = any(
        (rule.kind, rule.major, rule.minor) == (kind, major, minor)
        and set(access) <= set(rule.access)
        for rule in rules
    )
    assert allows(prologue(rules) + NO, kind, major, minor, access) is expected


@given(RULES)
def test_rule_allows_its_device(rule: Rule) -> None:
    """Two random devices are seldom the same."""
    assert allows(prologue([rule]) + NO, rule.kind, rule.major, rule.minor, rule.access)
    assert not allows(prologue([rule]) + NO, rule.kind, rule.major, rule.minor + 1, rule.access)


# As systemd 257 writes it for DevicePolicy=closed, DeviceAllow=/dev/null rwm (bpf-devices.c).
SYSTEMD = b"".join(
    (
        line(0x61, 2, 1, offset=0),
        line(0x54, 2, value=0xFFFF),
        line(0x61, 3, 1, offset=0),
        line(0x74, 3, value=16),
        line(0x61, 4, 1, offset=4),
        line(0x61, 5, 1, offset=8),
        line(0x55, 2, value=2, offset=3),
        line(0x55, 4, value=1, offset=2),
        line(0x55, 5, value=3, offset=1),
        line(0x05, offset=2),
        line(0xB7, value=0),
        line(0x05, offset=1),
        line(0xB7, value=1),
        line(0x95),
    )
)


def test_program_of_systemd() -> None:
    assert allows(SYSTEMD, "c", 1, 3, "rw")
    assert not allows(SYSTEMD, "c", 195, 0, "rw")
    assert not allows(SYSTEMD, "b", 1, 3, "rw")


def test_blinded_constants() -> None:
    """net.core.bpf_jit_harden: the kernel's own register 11 makes the constants."""
    blinded = (
        line(0x61, 4, 1, offset=4)
        + line(0xB7, 11, value=195 ^ 0x5A5A)
        + line(0xA7, 11, value=0x5A5A)
        + line(0x1D, 4, 11, offset=2)
    )
    assert allows(blinded + NO + YES, "c", 195, 0, "r")
    assert not allows(blinded + NO + YES, "c", 10, 0, "r")


@pytest.mark.parametrize(
    "program",
    [
        b"",
        line(0x05, offset=-1),
        line(0x05, offset=100),
        line(0x85, value=5) + NO,
        line(0x18, 1, 1, 9) + line(0) + NO,
        line(0x79, 0, 1, offset=12) + line(0x95),
        line(0x61, 0, 2) + line(0x95),
        line(0xBF, 0, 1) + line(0x95),
        line(0x0F, 0, 1) + line(0x95),
        line(0x15, 1) + NO,
        line(0xB7, 13) + NO,
        line(0x63, 1, 0) + NO,
        line(0x30) + NO,
    ],
    ids=[
        *("empty", "endless", "beyond", "call", "map", "outside", "memory", "address", "addition"),
        *("comparison", "register", "store", "packet"),
    ],
)
def test_other_programs_are_not_interpreted(program: bytes) -> None:
    with pytest.raises(NotInterpretedError):
        allows(program, "c", 1, 3, "rw")


@given(st.binary(max_size=400))
def test_any_bytes_end(program: bytes) -> None:
    try:
        assert allows(program, "c", 195, 0, "rw") in {True, False}
    except NotInterpretedError:
        return
