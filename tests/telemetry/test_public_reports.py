# SPDX-License-Identifier: Apache-2.0
"""What users of other programs have reported about NVML, rebuilt with the mock."""

from __future__ import annotations

import pytest

from cdi_gen.metrics.exposition import render
from cdi_gen.metrics.families import families
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.telemetry import GpuReading, ProcessReading, Reading, Telemetry
from tests.fakehost.gpus import H100, gpu
from tests.fakehost.nvml_mock import DESCRIPTION
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


@pytest.mark.parametrize("engine", ["sm", "memory_share", "encoder", "decoder"])
def test_a_share_above_the_whole_is_unknown(nvml: MakeNvml, engine: str) -> None:
    """nvtop 110, DCGM 83: NVML gives shares such as 2147483632 for a process that runs."""
    mocked = nvml(gpu(0))
    told = {"sm": 7, "memory_share": 0, "encoder": 0, "decoder": 0, engine: 2147483632}
    mocked.values.run("0", 101, memory=MIB, kind="compute", **told)
    (process,) = processes(mocked)
    shares = (
        process.utilization,
        process.memory_utilization,
        process.encoder_utilization,
        process.decoder_utilization,
    )
    assert shares == (None, None, None, None)


def test_a_utilization_above_the_whole_is_absent(nvml: MakeNvml) -> None:
    """gpustat 170, nvitop 127: driver 555.85 answers with what was in the memory."""
    mocked = nvml(gpu(0))
    garbage = 4160813056
    mocked.values.set(
        "0",
        utilization_gpu=garbage,
        utilization_memory=43,
        utilization_encoder=garbage,
        utilization_decoder=garbage,
    )
    quantities = first(mocked).quantities
    assert "gpu_util_ratio" not in quantities
    assert "enc_util_ratio" not in quantities
    assert "dec_util_ratio" not in quantities
    assert quantities["memory_util_ratio"] == 0.43


def test_a_memory_without_a_thermometer_has_no_temperature(nvml: MakeNvml) -> None:
    """dcgm-exporter 460: NVML answers with 0 degrees for a GeForce RTX 3090, and for a GB10."""
    mocked = nvml(gpu(0))
    mocked.values.fields("0", {82: "0u"})
    assert "memory_temp_celsius" not in first(mocked).quantities


def test_a_gpu_with_the_memory_of_the_host(nvml: MakeNvml) -> None:
    """nvtop 426, nvitop 208: a GB10 tells no memory, its processes do."""
    mocked = nvml(gpu(0))
    mocked.values.set("0", memory_own=0, bar1_total="E3", power_limit="E3")
    mocked.values.run("0", 101, memory=63_931 * MIB)
    reading = first(mocked)
    assert reading.fault == ""
    assert not [key for key in reading.quantities if key.startswith(("fb_", "bar1_"))]
    assert [process.memory for process in reading.processes or ()] == [63_931 * MIB]


def test_a_name_of_undecodable_bytes(nvml: MakeNvml) -> None:
    """pynvml 53, gpustat 170, codecarbon 697: NVML in WSL answers with bytes such as 0xf8."""
    mocked = nvml(gpu(0))
    description = mocked.library.with_name(DESCRIPTION)
    text = description.read_bytes()
    description.write_bytes(text.replace(H100.name.encode(), b"\xf8\x1b[2J\x95\xc2"))
    model = first(mocked).model
    assert model.startswith("\ufffd")
    families_of = families(Snapshot(reading=Reading(time=1, seconds=0, gpus=(first(mocked),))))
    assert b'modelName="' in render(families_of)
    assert b"\x1b" not in render(families_of)
