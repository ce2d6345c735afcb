# SPDX-License-Identifier: Apache-2.0
"""MIG devices that are created and destroyed, and MIG that is switched on and off."""

from __future__ import annotations

from cdi_gen.telemetry import GpuReading, Telemetry
from tests.fakehost.gpus import H100, gpu, split
from tests.telemetry.fixtures import MakeNvml

MIB = 1 << 20


def first(telemetry: Telemetry) -> GpuReading:
    return telemetry.read().gpus[0]


def test_a_mig_device_that_is_destroyed_and_created_again(nvml: MakeNvml) -> None:
    mocked = nvml(split(0, H100))
    mocked.values.set("0:1", memory_used=5 * MIB, gpm_2=50)
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.destroy("0:1")
        indices = [mig.index for mig in first(telemetry).mig]
        assert indices == ["0:0", "0:2", "0:3", "0:4", "0:5", "0:6"]
        mocked.values.recover("0:1")
        mig = first(telemetry).mig[1]
        assert (mig.index, mig.quantities["fb_used_bytes"]) == ("0:1", 5 * MIB)
        assert "sm_util_ratio" not in mig.quantities  # of the time before it existed
        assert first(telemetry).mig[1].quantities["sm_util_ratio"] == 0.5


def test_a_mig_device_that_is_destroyed_during_a_pass(nvml: MakeNvml) -> None:
    """NVML says that the handle, which was just given, is invalid; later it is valid again."""
    mocked = nvml(split(0, H100))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.set("0:1", memory_used="E2")
        assert "fb_used_bytes" not in first(telemetry).mig[1].quantities
        mocked.values.set("0:1", memory_used=5 * MIB)
        assert first(telemetry).mig[1].quantities["fb_used_bytes"] == 5 * MIB


def test_samples_of_destroyed_instances_are_freed(nvml: MakeNvml) -> None:
    mocked = nvml(split(0, H100))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        assert mocked.count("gpm_samples") == 14
        for number in range(7):
            mocked.values.destroy(f"0:{number}")
        assert first(telemetry).mig == ()
        assert mocked.count("gpm_samples") == 0


def test_mig_is_enabled_and_disabled(nvml: MakeNvml) -> None:
    mocked = nvml(split(0, H100))
    mocked.values.set("0", mig_mode=0)
    with Telemetry(str(mocked.library)) as telemetry:
        whole = first(telemetry)
        assert (whole.mig_enabled, whole.mig, whole.processes) == (False, (), ())
        assert whole.quantities["gpu_util_ratio"] == 0.87
        mocked.values.set("0", mig_mode=1)
        divided = first(telemetry)
        assert (divided.mig_enabled, len(divided.mig)) == (True, 7)
        assert "gpu_util_ratio" not in divided.quantities
        mocked.values.set("0", mig_mode=0)
        whole = first(telemetry)
        assert (whole.mig_enabled, whole.mig) == (False, ())
        assert whole.quantities["gpu_util_ratio"] == 0.87
        assert mocked.count("gpm_samples") == 2


def test_a_divided_gpu_without_mig_devices(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0, H100, mig_enabled=True))
    with Telemetry(str(mocked.library)) as telemetry:
        reading = first(telemetry)
    assert (reading.mig_enabled, reading.mig, reading.processes) == (True, (), ())
    assert reading.quantities["mig_mode"] == 1
