# SPDX-License-Identifier: Apache-2.0
"""A fork of the test's process ends as a new process does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli import forked
from tests.cli.program import CHECKOUT, ENVIRONMENT, INVENTORY, PROGRAM


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("generate", "--inventory", INVENTORY), {}),
        (("generate", "--inventory", INVENTORY), {"CDI_GEN_LOG_FORMAT": "json"}),
        (("generate", "--inventory", "missing\udcff"), {}),
        (("generate", "--nonsense"), {}),
        (("generate", "--help"), {"COLUMNS": "60"}),
        (("validate", "specs/golden/flat-550-1gpu/nvidia.json"), {}),
        ((), {}),
    ],
)
def test_a_fork_is_like_a_new_process(words: tuple[str, ...], variables: dict[str, str]) -> None:
    environment = ENVIRONMENT | variables
    new = subprocess.run(
        [*PROGRAM, *words], env=environment, cwd=CHECKOUT, capture_output=True, check=False
    )
    expected = (new.returncode, new.stdout.decode(), new.stderr.decode())
    assert forked.run(words, environment, CHECKOUT, 30) == expected


def test_nothing_of_the_test_reaches_a_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its variables nor its directory, and no error of it is lost."""
    monkeypatch.setenv("CDI_GEN_LOG_FORMAT", "json")
    monkeypatch.chdir(tmp_path)
    code, _, err = forked.run(["generate", "--nonsense"], ENVIRONMENT, CHECKOUT, 30)
    assert (code, err[:8]) == (2, "cdi-gen:")

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(forked, "main", fail)
    code, out, err = forked.run([], ENVIRONMENT, CHECKOUT, 30)
    assert (code, out) == (1, "")
    assert err.endswith("ZeroDivisionError\n")


def test_a_fork_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(forked, "main", lambda: os.read(os.pipe()[0], 1))
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([], ENVIRONMENT, CHECKOUT, 0.2)
    assert os.listdir("/proc/self/fd") == before
