# SPDX-License-Identifier: Apache-2.0
"""Names sort as the loader compares them (glibc: _dl_cache_libcmp), with signed and unsigned letters."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cdi_base import syscalls

NAME = "cdi_hook.ldso.cache_file"
NAMES = st.lists(
    st.sampled_from([b"l", b"lib", b".", b"-", b"~", b"\x01", b"\x7f", b"\x80", b"\xc3", b"\xff"])
    | st.sampled_from([b"0", b"1", b"9", b"12", b"00", b"007"]),
    max_size=8,
).map(b"".join)


def compared(one: bytes, other: bytes, *, signed: bool) -> int:
    """The loader's comparison, as its C is written: below, at or above zero."""
    a, b = one + b"\0", other + b"\0"
    at = other_at = 0
    while a[at]:
        if is_digit(a[at]):
            if not is_digit(b[other_at]):
                return 1
            number, at = read_number(a, at)
            other_number, other_at = read_number(b, other_at)
            if number != other_number:
                return number - other_number
        elif is_digit(b[other_at]):
            return -1
        elif a[at] != b[other_at]:
            break
        else:
            at += 1
            other_at += 1
    return letter(a[at], signed=signed) - letter(b[other_at], signed=signed)


def is_digit(character: int) -> bool:
    return 48 <= character <= 57


def read_number(text: bytes, at: int) -> tuple[int, int]:
    end = at
    while is_digit(text[end]):
        end += 1
    return int(text[at:end]), end


def letter(character: int, *, signed: bool) -> int:
    return character - 256 if signed and character > 127 else character


@pytest.fixture(params=["x86_64", "aarch64"], scope="module")
def module(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module as it is on a machine of the architecture; others keep their own."""
    own, machine = importlib.import_module(NAME), syscalls.MACHINE
    syscalls.MACHINE = request.param
    del sys.modules[NAME]
    try:
        yield importlib.import_module(NAME)
    finally:
        syscalls.MACHINE = machine
        sys.modules[NAME] = own
        sys.modules["cdi_hook.ldso"].cache_file = own  # type: ignore[attr-defined]  # as import does


@settings(max_examples=500)
@given(one=NAMES, other=NAMES)
def test_keys_sort_as_the_loader_compares(module: ModuleType, one: bytes, other: bytes) -> None:
    # A C `int` overflows; tests with ldconfig have such names.
    assume(not module._has_long_number(one + b"/" + other))
    signed = module.MACHINE == "x86_64"
    expected = compared(one, other, signed=signed)
    for key in (module._key, module._key_as_in_c):
        one_key, other_key = key(one), key(other)
        assert (one_key < other_key, one_key == other_key) == (expected < 0, expected == 0)
