# SPDX-License-Identifier: Apache-2.0
"""When a refresh is due."""

from __future__ import annotations

import pytest

from cdi_gen.watch.schedule import MAX_SETTLE_SECONDS, RECHECK_SECONDS, SETTLE_SECONDS, Schedule


@pytest.fixture
def schedule() -> Schedule[str]:
    """A schedule whose first refresh was at time 100."""
    schedule: Schedule[str] = Schedule()
    schedule.observe("a", 100.0)
    assert schedule.due_at() == 100.0, "the first refresh waits for nothing"
    schedule.refresh_ended("a", 0, 100.0)
    return schedule


def test_nothing_is_due_without_a_change(schedule: Schedule[str]) -> None:
    schedule.observe("a", 1000.0)
    assert schedule.due_at() is None


def test_a_refresh_waits_for_the_end_of_changes(schedule: Schedule[str]) -> None:
    schedule.observe("b", 200.0)
    assert schedule.due_at() == 200.0 + SETTLE_SECONDS
    schedule.observe("c", 200.5)
    assert schedule.due_at() == 200.5 + SETTLE_SECONDS
    schedule.observe("c", 200.9)
    assert schedule.due_at() == 200.5 + SETTLE_SECONDS


def test_changes_without_an_end_do_not_delay_a_refresh_for_ever(schedule: Schedule[str]) -> None:
    for step in range(100):
        schedule.observe(f"state {step}", 200.0 + step * 0.5)
    assert schedule.due_at() == 200.0 + MAX_SETTLE_SECONDS


def test_a_change_that_is_undone_needs_no_refresh(schedule: Schedule[str]) -> None:
    schedule.observe("b", 200.0)
    schedule.observe("a", 200.2)
    assert schedule.due_at() is None


def test_a_change_during_a_refresh_is_not_missed(schedule: Schedule[str]) -> None:
    schedule.observe("b", 200.0)
    # The refresh began in state b; the host is in state c when it ends.
    schedule.refresh_ended("b", 0, 203.0)
    schedule.observe("c", 203.0)
    assert schedule.due_at() == 203.0 + SETTLE_SECONDS


@pytest.mark.parametrize("code", [1, 2, 6, 7, 130, 15])
def test_a_refresh_that_failed_is_tried_again_less_and_less_often(
    schedule: Schedule[str], code: int
) -> None:
    pauses = []
    for _ in range(6):
        schedule.refresh_ended("a", code, 0.0)
        schedule.observe("a", 0.0)
        pauses.append(schedule.due_at())
    assert pauses == [5.0, 30.0, 120.0, 300.0, 300.0, 300.0]
    schedule.refresh_ended("a", 0, 0.0)
    assert schedule.due_at() is None
    schedule.refresh_ended("a", code, 0.0)
    assert schedule.due_at() == 5.0


def test_a_change_after_a_failure_does_not_wait_for_the_next_attempt(
    schedule: Schedule[str],
) -> None:
    for _ in range(5):
        schedule.refresh_ended("a", 1, 200.0)
    schedule.observe("b", 201.0)
    assert schedule.due_at() == 201.0 + SETTLE_SECONDS


@pytest.mark.parametrize("code", [4, 5])
def test_a_device_that_was_left_out_is_looked_at_again(schedule: Schedule[str], code: int) -> None:
    schedule.refresh_ended("a", code, 200.0)
    assert schedule.due_at() == 200.0 + RECHECK_SECONDS


def test_no_driver_is_no_failure(schedule: Schedule[str]) -> None:
    schedule.refresh_ended("a", 3, 200.0)
    assert schedule.due_at() is None
