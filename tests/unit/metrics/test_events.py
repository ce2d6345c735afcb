# SPDX-License-Identifier: Apache-2.0
"""Numbers of events in the last minutes."""

from __future__ import annotations

from cdi_gen.metrics.events import Counts, RecentEvents, totals
from cdi_gen.telemetry.model import Reading
from tests.unit.metrics import snapshots

KEY = (snapshots.uuid(0), -1)


def after(seconds: float, **xids: int) -> Reading:
    """Return a pass, with the total of each Xid so far: ``x79=2``."""
    counts = {int(name[1:]): count for name, count in xids.items()}
    return snapshots.reading(snapshots.gpu(xids=counts), time=1000 + seconds)


def recent(*readings: Reading) -> Counts | None:
    """Return the Xids of the last 300 s, after these passes."""
    events = RecentEvents()
    return [events.update(reading) for reading in readings][-1][KEY].xids


def test_events_of_a_short_run_are_all_recent() -> None:
    assert recent(after(0, x79=2)) == {"79": 2}
    assert recent(after(0), after(100, x79=2), after(299, x79=3)) == {"79": 3}


def test_events_before_the_window_are_not_counted() -> None:
    assert recent(after(0, x79=2), after(300, x79=2)) == {}
    assert recent(after(0, x79=2), after(200, x79=5), after(300, x79=6)) == {"79": 4}
    assert recent(after(0, x79=2), after(150, x79=5), after(450, x79=6)) == {"79": 1}


def test_pass_that_is_seen_twice_counts_once() -> None:
    reading = after(10, x79=2)
    assert recent(after(0), reading, reading) == {"79": 2}


def test_total_that_began_again() -> None:
    assert recent(after(0, x79=5), after(300, x79=1)) == {"79": 1}


def test_memory_is_bounded() -> None:
    events = RecentEvents()
    for number in range(1000):
        events.update(after(15 * number, x79=number))
    assert len(events._past) == 21


def test_clock_that_goes_back() -> None:
    assert recent(after(1000, x79=2), after(0, x79=3)) == {"79": 3}


def test_events_that_cannot_be_observed_are_unknown() -> None:
    gpu = snapshots.gpu(0, {"gpu_temp_celsius": 30})
    assert totals(snapshots.reading(gpu))[KEY] == (None, None)


def test_gpu_that_vanishes_and_comes_back() -> None:
    assert recent(after(0, x79=2), snapshots.reading(time=1150), after(450, x79=2)) == {"79": 2}
