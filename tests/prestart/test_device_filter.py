# SPDX-License-Identifier: Apache-2.0
"""The device filter's program: what it says, read line by line, and asked of the kernel."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_runtime.prestart import device_filter
from cdi_runtime.prestart.device_filter import FilterError, Rule
from tests.hook.conftest import HOOKS, PYTHON

KINDS = st.sampled_from("bc")
NUMBERS = st.integers(0, 3) | st.integers(0, (1 << 20) - 1)
ACCESS = st.lists(st.sampled_from("rwm"), min_size=1).map("".join)
RULES = st.builds(Rule, KINDS, NUMBERS, NUMBERS, ACCESS)
QUESTIONS = st.tuples(KINDS, NUMBERS, NUMBERS, ACCESS)


def answered(program: bytes, kind: str, major: int, minor: int, access: str) -> int | None:
    """What a program of those few instructions says; None if it goes on behind its end."""
    wanted = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in set(access))
    question = {0: wanted << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
    registers: dict[int, int] = {}
    lines = list(struct.iter_unpack("=BBhi", program))
    at = 0
    while at < len(lines):
        code, both, offset, value = lines[at]
        target, source = both & 15, both >> 4
        at += 1
        if code == 0x61:
            assert source == 1
            registers[target] = question[offset]
        elif code == 0xBF:
            registers[target] = registers[source]
        elif code == 0x57:
            registers[target] &= value
        elif code == 0x77:
            registers[target] >>= value
        elif code == 0xB7:
            registers[target] = value
        elif code == 0x55:
            at += offset if registers[target] != value else 0
        else:
            assert code == 0x95
            return registers[0]
    assert at == len(lines)
    return None


@given(st.lists(RULES, max_size=4), QUESTIONS)
def test_prologue_allows_exactly_what_a_rule_allows(
    rules: list[Rule], question: tuple[str, int, int, str]
) -> None:
    kind, major, minor, access = question
    allowed = any(
        (rule.kind, rule.major, rule.minor) == (kind, major, minor)
        and set(access) <= set(rule.access)
        for rule in rules
    )
    assert answered(device_filter.prologue(rules), *question) == (1 if allowed else None)


@given(RULES)
def test_prologue_allows_the_device_of_its_rule(rule: Rule) -> None:
    """Two random devices are seldom the same."""
    program = device_filter.prologue([rule])
    assert answered(program, rule.kind, rule.major, rule.minor, rule.access) == 1
    for letter in {*"rwm"} - {*rule.access}:
        asked = (rule.kind, rule.major, rule.minor, rule.access + letter)
        assert answered(program, *asked) is None


def _line(code: int, target: int = 0, source: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, 0, value)


def test_plain_program_is_loadable_unchanged() -> None:
    program = _line(0x61, 2, 1) + _line(0xB7, 0) + _line(0x95)
    assert device_filter.loadable(program) == program


def test_blinding_register_is_replaced_by_a_spare_one() -> None:
    """net.core.bpf_jit_harden: constants come by way of register 11, which is the kernel's own."""
    blinded = _line(0xB7, 11, value=7) + _line(0xA7, 11, value=3) + _line(0xBF, 9, 11)
    plain = _line(0xB7, 8, value=7) + _line(0xA7, 8, value=3) + _line(0xBF, 9, 8)
    assert device_filter.loadable(blinded) == plain
    assert device_filter.loadable(_line(0xAF, 3, 3)) == _line(0xB7, 3)


@pytest.mark.parametrize(
    "program",
    [
        _line(0x85, value=5),
        _line(0x18, 1, 1, 9) + _line(0),
        b"".join(_line(0xBF, register, 11) for register in (6, 7, 8, 9)),
    ],
    ids=["a call", "a map", "no register left"],
)
def test_program_with_calls_or_maps_is_rejected(program: bytes) -> None:
    with pytest.raises(FilterError):
        device_filter.loadable(program)


IN_THE_KERNEL = """
import os, struct, sys
sys.path.insert(0, sys.argv[1])
from cdi_base import device_programs
from cdi_runtime.prestart import device_filter as f
from cdi_runtime.prestart.device_filter import Rule

tree = "/sys/fs/cgroup"
group = f"{tree}/cdi-gen-filter-{os.getpid()}"
os.mkdir(group)
try:
    place = os.open(group, os.O_RDONLY)
    flags = int(sys.argv[2])
    # Programs that say no to all, and one that forbids but one device, each for itself.
    no = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    programs = [no, f.prologue([Rule("c", 1, 5, "rwm")]) + no]
    for program in programs[: 2 if flags == 2 else 1]:
        f._attach(place, f._load(program, b"GPL\\0"), flags)
    before, _ = device_programs.attached(place)
    rules = [Rule("c", 1, 7, "r"), Rule("c", 1, 8, "rwm")]
    f.allow(place, rules)
    after, kept = device_programs.attached(place)
    child = os.fork()
    if not child:
        with open(f"{group}/cgroup.procs", "w") as file:
            file.write("0")
        for name, how in (("full", "r"), ("full", "w"), ("random", "r"), ("zero", "r"), ("tty", "r")):
            try:
                open(f"/dev/{name}", how).close()
                print(name, how, "yes")
            except PermissionError:
                print(name, how, "no")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    print(len(before), len(after), not set(before) & set(after), kept == flags)
finally:
    os.rmdir(group)
"""


@pytest.mark.engine
@pytest.mark.parametrize("flags", [0, 1, 2], ids=["exclusive", "override", "multi"])
def test_all_programs_of_a_group_are_replaced(flags: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(IN_THE_KERNEL)
    mounts = "umount -l -R /sys/fs/cgroup 2>&-; mount -t cgroup2 none /sys/fs/cgroup"
    run = [PYTHON, "-IS", str(script), str(HOOKS), str(flags)]
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mounts}; exec "$@"', "sh", *run],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if "PermissionError" in ended.stderr or "Invalid argument" in ended.stderr:
        pytest.skip("no device filter can be attached here")
    count = 2 if flags == device_filter._ALLOW_MULTI else 1
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "full r yes",
        "full w no",
        "random r yes",
        "zero r no",
        "tty r no",
        f"{count} {count} True True",
    ]
