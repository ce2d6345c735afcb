# SPDX-License-Identifier: Apache-2.0
"""The mutator makes the mistakes that it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutants import mutants
from tests.mutation.suites import SUITES, suites_of

HOOKS = Path(__file__).resolve().parents[2] / "hooks"


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x = A | B | C", {"x = B | C", "x = A | C", "x = A | B"}),
        ("x = a < 1", {"x = a >= 1", "x = a <= 1", "x = a < 2"}),
        ("x = a in {B, C}", {"x = a not in {B, C}", "x = a in {B}", "x = a in {C}"}),
        ("f(a, k=b)", {"pass", "f(a)"}),
        ("while a:\n    continue", {"while not a:\n    continue", "while a:\n    pass"}),
        ("raise OSError(errno.EXDEV, 'x')", {"pass", "raise OSError(errno.EPROTO, 'x')"}),
        ("x = a and not b", {"x = a", "x = not b", "x = a and b"}),
        ("x: int | None = y", set()),
        ('"""Words."""', set()),
        ("if TYPE_CHECKING:\n    x = A | B", set()),
        ("def f() -> A | B:\n    return True", {"def f() -> A | B:\n    return False"}),
    ],
)
def test_mutants_of(source: str, changed: set[str]) -> None:
    assert {mutant.source for mutant in mutants(source)} == changed


@pytest.mark.parametrize("name", ["rootfs/resolve.py", "rootfs/rootfs.py", "files.py"])
def test_the_flags_of_the_path_modules_are_among_them(name: str) -> None:
    source = (HOOKS / "cdi_base" / name).read_text()
    gone = {mutant.what for mutant in mutants(source)}
    wanted = {"without os.O_NOFOLLOW"}
    if name == "rootfs/resolve.py":
        wanted |= {f"without syscalls.RESOLVE_{rule}" for rule in ("IN_ROOT", "NO_MAGICLINKS")}
        wanted |= {"no rules |= syscalls.RESOLVE_NO_XDEV"}
    if name == "files.py":
        wanted |= {"without os.O_EXCL"}
    assert wanted <= gone


def test_the_tests_of_the_same_name_come_first() -> None:
    first, *others = suites_of("hooks/cdi_base/trust.py")
    assert first == ("tests/unit/base/test_trust.py",)
    assert others == [*SUITES["hooks/cdi_base/"]]


def test_the_longest_path_chooses_the_suites() -> None:
    # No test has the name of this module.
    assert suites_of("hooks/cdi_base/rootfs/folders.py") == SUITES["hooks/cdi_base/rootfs/"]


def test_every_suite_exists() -> None:
    for suite in (suite for suites in SUITES.values() for suite in suites):
        assert [path for path in suite if path.startswith("tests/")]
        for path in suite:
            assert not path.startswith("tests/") or (HOOKS.parent / path).exists(), path
