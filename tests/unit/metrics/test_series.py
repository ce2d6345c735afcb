# SPDX-License-Identifier: Apache-2.0
"""The number of series is the formula's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.metrics.catalogue import NEW, OLD, clock_events, keys
from cdi_gen.metrics.events import RecentEvents
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.snapshot import HostUse, Snapshot
from cdi_gen.telemetry.model import LinkReading
from tests.unit.metrics import snapshots
from tests.unit.metrics.series import Host, series

FULL = dict.fromkeys(keys(), 1.0)
LINKS = tuple(
    LinkReading(number=number, quantities=dict.fromkeys(keys("link"), 1.0)) for number in range(18)
)


def full(snapshot: Snapshot) -> Snapshot:
    """Let NVML tell everything."""
    gpus = tuple(
        replace(
            gpu,
            quantities=FULL,
            links=LINKS,
            clock_event_counts=dict.fromkeys(clock_events(), 1),
            mig=tuple(replace(device, quantities=FULL) for device in gpu.mig),
        )
        for gpu in snapshot.reading.gpus
    )
    uses = tuple(
        replace(
            use,
            utilization=0.1,
            memory_utilization=0.1,
            encoder_utilization=0.1,
            decoder_utilization=0.1,
        )
        for use in snapshot.uses
    )
    host_uses = tuple(
        HostUse(device=gpu.index, processes=1, memory=1, utilization=0.1) for gpu in gpus
    )
    return replace(
        snapshot, reading=replace(snapshot.reading, gpus=gpus), uses=uses, host_uses=host_uses
    )


@pytest.mark.parametrize("names", [(OLD,), (NEW,), (OLD, NEW)], ids=["old", "new", "both"])
@pytest.mark.parametrize(("gpus", "mig", "containers"), [(1, 0, 0), (8, 0, 3), (2, 7, 10)], ids=str)
def test_number_of_series(names: tuple[str, ...], gpus: int, mig: int, containers: int) -> None:
    snapshot = full(snapshots.many(gpus, mig, containers))
    made = families(snapshot, Options(names=names), RecentEvents().update(snapshot.reading))
    number = len(snapshot.holders)
    host = Host(
        gpus=gpus,
        instances=gpus * mig,
        links=gpus * len(LINKS),
        containers=number,
        uses=number,
        host_uses=gpus,
    )
    assert sum(len(family.samples) for family in made) == series(host, names)


def test_an_xid_adds_two_series() -> None:
    snapshot = full(snapshots.many(1, 0, 0))
    gpu = replace(snapshot.reading.gpus[0], xids={79: 1, 13: 5})
    snapshot = replace(snapshot, reading=replace(snapshot.reading, gpus=(gpu,)))
    made = families(snapshot, Options(), RecentEvents().update(snapshot.reading))
    host = Host(gpus=1, links=len(LINKS), host_uses=1, xids=2)
    # The sample of a window without Xids is not there.
    assert sum(len(family.samples) for family in made) == series(host, (OLD,)) - 1
