# SPDX-License-Identifier: Apache-2.0
"""Drivers that lack functions, and the module pynvml, which is not needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from cdi_gen.telemetry import GpuReading, ProcessReading, Telemetry
from tests.fakehost.gpus import T4, gpu, split
from tests.host.looking import python
from tests.telemetry.fixtures import MakeNvml
from tests.telemetry.mocked import Mocked

MIB = 1 << 20

MISSING_IN_470 = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetGpuFabricInfo",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetSramEccErrorStatus",
    "nvmlDeviceGetTemperatureV",
    "nvmlGpmMetricsGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleFree",
    "nvmlGpmSampleGet",
)
NAMES_IN_470 = {
    f"nvmlDeviceGet{kind}RunningProcesses_v2": f"nvmlDeviceGet{kind}RunningProcesses_v3"
    for kind in ("Compute", "Graphics", "MPSCompute")
}
"""The mock has the functions of version 3, whose entries are the same."""


Pretend = Callable[..., None]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Make libraries that are loaded lack functions, or have them under other names."""

    def library_without(*missing: str, **names: str) -> None:
        class OldLibrary(ctypes.CDLL):
            def __getitem__(self, name: str) -> Any:
                if name in missing or name in names.values():
                    raise AttributeError(name)
                return super().__getitem__(names.get(name, name))

        monkeypatch.setattr("cdi_gen.telemetry.library.ctypes.CDLL", OldLibrary)

    return library_without


def read(mocked: Mocked) -> GpuReading:
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        reading = telemetry.read()
    assert not reading.error
    return reading.gpus[0]


def test_driver_470(nvml: MakeNvml, pretend: Pretend) -> None:
    mocked = nvml(gpu(0, T4), version="470.256.02")
    pretend(*MISSING_IN_470, **NAMES_IN_470)
    mocked.values.run("0", 101, memory=MIB, sm=20)
    reading = read(mocked)
    assert not reading.fault
    assert reading.quantities["gpu_temp_celsius"] == 61
    assert reading.quantities["fb_used_bytes"] == (20_000 + 576) * MIB
    assert "fb_reserved_bytes" not in reading.quantities
    assert reading.quantities["ecc_dbe_agg_total"] == 2
    assert reading.clock_events == {"power_cap"}
    assert reading.processes is not None
    assert [(p.pid, p.memory, p.utilization) for p in reading.processes] == [(101, MIB, 0.2)]


def test_mig_of_driver_470(nvml: MakeNvml, pretend: Pretend) -> None:
    mocked = nvml(split(0), version="470.256.02")
    pretend(*MISSING_IN_470, **NAMES_IN_470)
    mocked.values.run("0:4", 101, memory=MIB)
    mig = read(mocked).mig[4]
    assert mig.processes == (ProcessReading(pid=101, memory=MIB),)
    assert mig.quantities["fb_capacity_bytes"] == 4864 * MIB


def test_a_driver_that_lists_no_processes(nvml: MakeNvml, pretend: Pretend) -> None:
    mocked = nvml(gpu(0))
    pretend(*NAMES_IN_470.values())
    mocked.values.run("0", 101, memory=MIB, sm=20)
    assert read(mocked).processes is None


@pytest.mark.parametrize(
    "name",
    [
        "nvmlDeviceGetFieldValues",
        "nvmlEventSetCreate",
        "nvmlDeviceRegisterEvents",
        "nvmlDeviceGetProcessUtilization",
        "nvmlDeviceGetMaxMigDeviceCount",
        "nvmlDeviceGetMinorNumber",
        "nvmlGpmSampleAlloc",
        "nvmlDeviceGetTemperature",
    ],
)
def test_a_driver_without_a_function_has_other_values(
    nvml: MakeNvml, pretend: Pretend, name: str
) -> None:
    mocked = nvml(gpu(0))
    pretend(name)
    reading = read(mocked)
    assert not reading.fault
    assert reading.quantities["sm_clock_hertz"] == 1_755_000_000
    assert reading.quantities["gpu_temp_celsius"] == 61


PROGRAM = """
import sys
sys.modules["pynvml"] = None
from cdi_gen.telemetry import Telemetry
with Telemetry(sys.argv[1]) as telemetry:
    telemetry.read()
    print(telemetry.read().gpus[0].quantities["gr_engine_util_ratio"])
"""


def test_pynvml_is_not_needed(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    done = python("-c", PROGRAM, str(mocked.library))
    assert (done.stdout, done.stderr) == ("0.915\n", "")
