# SPDX-License-Identifier: Apache-2.0
"""How a refresh is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.watch import refresher
from cdi_gen.watch.refresher import ChildProcess, Unit


def never() -> bool:
    return False


def test_the_exit_code_of_the_command_is_returned() -> None:
    assert ChildProcess(["sh", "-c", "exit 4"]).run(never) == 4


def test_a_command_that_does_not_exist_is_a_failure_like_others() -> None:
    """It is being replaced by a new version, perhaps."""
    assert ChildProcess(["/nonexistent/cdi-gen", "refresh"]).run(never) == 127
    assert Unit("cdi-gen.service", "/nonexistent/systemctl").run(never) == 127


def test_a_refresh_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresher, "STEP_SECONDS", 0.05)
    started = time.monotonic()
    assert ChildProcess(["sleep", "60"], seconds=0.2).run(never) == refresher.TIMED_OUT
    assert time.monotonic() - started < 30


def test_the_end_of_the_service_ends_the_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresher, "STEP_SECONDS", 0.05)
    calls = iter([False, False, True])
    assert ChildProcess(["sleep", "60"]).run(lambda: next(calls)) is None


@pytest.fixture
def systemctl(tmp_path: Path) -> Callable[[int, int, float], str]:
    """Write a systemctl that logs its words."""

    def write(code: int, status: int, started: float) -> str:
        program = tmp_path / "systemctl"
        program.write_text(
            f'#!/bin/sh\necho "$1" >>{tmp_path}/log\n'
            f'[ "$1" = show ] || exit {code}\n'
            f"printf 'ExecMainStatus={status}\\nExecMainStartTimestampMonotonic={started * 1e6:.0f}\\n'\n"
        )
        program.chmod(0o755)
        return str(program)

    return write


@pytest.mark.parametrize(
    ("code", "status", "result"),
    [(0, 0, 0), (1, 4, 4), (1, 5, 5), (1, 0, 1), (0, 3, 0)],
    ids=["success", "partial", "held-back", "no-such-unit", "no-driver-is-success"],
)
def test_the_result_of_the_unit_is_that_of_its_process(
    systemctl: Callable[[int, int, float], str], code: int, status: int, result: int
) -> None:
    program = systemctl(code, status, time.monotonic() + 3600)
    assert Unit("cdi-gen.service", program).run(never) == result


def test_a_start_that_was_merged_into_an_earlier_one_is_repeated(
    systemctl: Callable[[int, int, float], str], tmp_path: Path
) -> None:
    program = systemctl(0, 0, time.monotonic() - 1)
    assert Unit("cdi-gen.service", program).run(never) == 0
    assert (tmp_path / "log").read_text().split() == ["start", "show", "start", "show"]


def test_a_start_of_its_own_is_not_repeated(
    systemctl: Callable[[int, int, float], str], tmp_path: Path
) -> None:
    program = systemctl(0, 0, time.monotonic() + 3600)
    assert Unit("cdi-gen.service", program).run(never) == 0
    assert (tmp_path / "log").read_text().split() == ["start", "show"]
