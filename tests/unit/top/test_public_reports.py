# SPDX-License-Identifier: Apache-2.0
"""What users of nvtop have reported, rebuilt as frames."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.containers.model import Holder
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from cdi_gen.telemetry.model import ProcessReading
from cdi_gen.top.frame import frame
from cdi_gen.top.glyphs import UNICODE
from cdi_gen.top.view import View
from tests.unit.metrics import snapshots
from tests.unit.top.shown import line_with, state

GIB = 1 << 30
DASH = "\u2013"


@pytest.mark.parametrize(
    ("memory", "shown"),
    [
        pytest.param(62 * GIB, "62.0 GiB", id="GB10"),
        pytest.param(None, DASH, id="WSL"),
    ],
)
def test_memory_that_nvml_does_not_tell_is_a_dash(memory: int | None, shown: str) -> None:
    """nvtop 426 and 449: a GB10 has no memory of its own. nvtop 432: WSL tells none of processes."""
    told = {key: value for key, value in snapshots.BUSY.items() if not key.startswith("fb_")}
    processes = (ProcessReading(pid=1001, memory=memory),)
    device = replace(snapshots.gpu(0, told, processes=processes), model="NVIDIA GB10")
    holder = Holder(container=snapshots.container(1), devices=(snapshots.held(device),))
    use = ContainerUse(holder=holder, device="0", processes=1, memory=memory)
    snapshot = Snapshot(
        reading=snapshots.reading(device), holders=(holder,), uses=(use,), containers=1
    )
    view = state(snapshot, View(is_all_expanded=True))
    assert f" {DASH} " in line_with(view, "GB10")
    assert "GiB" not in line_with(view, "GB10")
    assert shown in line_with(view, "job-1")
    assert shown in line_with(view, "1001")


@pytest.mark.parametrize(("columns", "rows"), [(184, 39), (189, 26), (189, 34), (78, 3), (2, 2)])
def test_eight_gpus_on_a_screen_of_an_odd_size(columns: int, rows: int) -> None:
    """nvtop 71 and 147, ngputop 3: a division by zero on a p3.16xlarge, by the size of the window."""
    assert len(frame(state(snapshots.eight()), columns, rows, UNICODE).lines) == rows
