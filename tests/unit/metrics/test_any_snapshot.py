# SPDX-License-Identifier: Apache-2.0
"""Whatever is measured, Prometheus' readers accept the text."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdi_gen.containers.model import Allocation, Holder, Pod
from cdi_gen.metrics.catalogue import NEW, OLD, keys
from cdi_gen.metrics.events import RecentEvents
from cdi_gen.metrics.exposition import COUNTER, render
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.labels import VALUE_LIMIT
from cdi_gen.metrics.snapshot import ContainerUse, HostUse, Snapshot
from cdi_gen.telemetry.model import GpuReading, LinkReading, MigReading, Reading
from tests.unit.metrics import snapshots
from tests.unit.metrics.parsing import parse

TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(snapshots.HOSTILE_NAMES[:14])
VALUE = st.floats() | st.integers(-5, 5) | st.just(math.nan)
SPECIAL = ["xid_error", "clocks_event_reasons", "fb_used_bytes", "pcie_replay_total"]
QUANTITIES = st.dictionaries(
    st.sampled_from(SPECIAL) | st.sampled_from(sorted(keys())), VALUE, max_size=6
)
COUNTS = st.dictionaries(st.integers(0, 200), st.integers(0, 5), max_size=2)
SMALL = st.integers(0, 2)

LINK = st.builds(LinkReading, number=SMALL, quantities=QUANTITIES)
MIG = st.builds(
    MigReading,
    index=st.sampled_from(["0:0", "0:1", "1:0"]),
    uuid=TEXT,
    profile=TEXT | st.sampled_from(["1g.10gb", "1c.2g.20gb"]),
    gpu_instance=SMALL,
    compute_instance=SMALL,
    quantities=QUANTITIES,
    xids=COUNTS,
)
GPU = st.builds(
    GpuReading,
    index=SMALL.map(str),
    uuid=TEXT,
    pci_address=TEXT | st.just("0000:3b:00.0"),
    model=TEXT,
    quantities=QUANTITIES,
    texts=st.just({}),
    minor=st.none(),
    mig_enabled=st.booleans(),
    mig=st.lists(MIG, max_size=2).map(tuple),
    links=st.lists(LINK, max_size=2).map(tuple),
    processes=st.none(),
    clock_events=st.just(frozenset({"power_cap"})),
    clock_event_counts=st.dictionaries(TEXT, st.integers(-1, 5), max_size=2),
    xids=COUNTS,
    fault=st.sampled_from(["", "lost"]),
    timeouts=SMALL,
)
POD = st.none() | st.builds(Pod, namespace=TEXT, name=TEXT, container=TEXT, uid=st.just(""))
HOLDER = st.builds(
    lambda number, pod, has_all, **text: Holder(
        container=snapshots.container(number, pod=pod, **text),
        devices=(),
        has_all=has_all,
        allocations=(Allocation(resource="r", ids=("GPU-1::0",)),) if has_all else (),
    ),
    SMALL,
    POD,
    st.booleans(),
    engine=TEXT,
    id=TEXT,
    name=TEXT,
    image=TEXT,
    unit=TEXT,
    user=TEXT,
)
SHARE = st.none() | st.floats()
DEVICE = st.sampled_from(["0", "1", "0:0", "0:1", "9"])
USE = st.builds(
    ContainerUse,
    holder=HOLDER,
    device=DEVICE,
    processes=st.none() | SMALL,
    memory=st.none() | st.integers(-1, 1 << 80),
    utilization=SHARE,
    memory_utilization=SHARE,
    encoder_utilization=SHARE,
    decoder_utilization=SHARE,
)
SNAPSHOT = st.builds(
    Snapshot,
    reading=st.builds(
        Reading,
        time=st.floats(),
        seconds=st.floats(),
        driver_version=TEXT,
        gpus=st.lists(GPU, max_size=3).map(tuple),
    ),
    holders=st.lists(HOLDER, max_size=2).map(tuple),
    uses=st.lists(USE, max_size=4).map(tuple),
    host_uses=st.lists(
        st.builds(HostUse, device=DEVICE, processes=SMALL, memory=SHARE), max_size=2
    ).map(tuple),
    containers=SMALL,
    unseen=st.just(()),
)
OPTIONS = st.builds(
    Options,
    names=st.sampled_from([(OLD,), (NEW,), (OLD, NEW)]),
    selection=st.none(),
    hostname=TEXT,
    per_container=st.booleans(),
    max_containers=SMALL,
)


# A snapshot has many parts; a loaded machine takes its time to draw one.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(SNAPSHOT, OPTIONS)
def test_text_has_no_duplicate_no_nan_and_no_negative_counter(
    snapshot: Snapshot, options: Options
) -> None:
    made = families(snapshot, options, RecentEvents().update(snapshot.reading))
    for family in made:
        assert all(math.isfinite(value) for value in family.samples.values())
        assert family.type != COUNTER or all(value >= 0 for value in family.samples.values())
    for is_openmetrics in (False, True):
        parsed = parse(render(made, openmetrics=is_openmetrics), is_openmetrics=is_openmetrics)
        series = [(sample.name, frozenset(sample.labels.items())) for sample in parsed.samples]
        assert len(series) == len(set(series)) == sum(len(family.samples) for family in made)
        for sample in parsed.samples:
            assert all(len(value.encode()) <= VALUE_LIMIT for value in sample.labels.values())
