# SPDX-License-Identifier: Apache-2.0
"""What users of other programs have reported about NVML, rebuilt with the mock."""

from __future__ import annotations

import pytest

from cdi_gen.telemetry import GpuReading, ProcessReading, Telemetry
from tests.fakehost.gpus import gpu
from tests.telemetry.fixtures import MakeNvml
from tests.telemetry.mocked import Mocked

MIB = 1 << 20


def first(mocked: Mocked) -> GpuReading:
    with Telemetry(str(mocked.library)) as telemetry:
        return telemetry.read().gpus[0]


def processes(mocked: Mocked) -> tuple[ProcessReading, ...]:
    listed = first(mocked).processes
    assert listed is not None
    return listed


@pytest.mark.parametrize("count", [1, 2, 32, 100])
@pytest.mark.parametrize("size", [16, 24, 32])
def test_processes_of_drivers_whose_entries_have_another_size(
    nvml: MakeNvml, size: int, count: int
) -> None:
    """nvitop 75, 79 and 226, go-nvml 75, pynvml 48: driver 535.54 lists wrong process numbers."""
    mocked = nvml(gpu(0))
    mocked.values.set("0", process_size=size)
    for number in range(count):
        mocked.values.run("0", 1000 + number, memory=(number + 1) * MIB)
    assert [(process.pid, process.memory) for process in processes(mocked)] == [
        (1000 + number, (number + 1) * MIB) for number in range(count)
    ]
