# SPDX-License-Identifier: Apache-2.0
"""The values of a reading are those that NVML gives, in base units."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from cdi_gen.telemetry import GpuReading, ProcessReading, Telemetry
from tests.fakehost.gpus import A100, RTX_4090, SHARED_INSTANCE, T4, gpu, split
from tests.telemetry.fixtures import MakeNvml

MIB = 1 << 20


def read(mocked_library: object) -> tuple[GpuReading, ...]:
    with Telemetry(str(mocked_library)) as telemetry:
        reading = telemetry.read()
    assert not reading.error
    return reading.gpus


def test_quantities_are_in_base_units(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0), gpu(1))
    _, second = read(mocked.library)
    expected = {
        "sm_clock_hertz": 1_756_000_000,
        "memory_clock_hertz": 2_620_000_000,
        "sm_max_clock_hertz": 1_980_000_000,
        "sm_app_clock_hertz": 1_830_000_000,
        "gpu_temp_celsius": 62,
        "board_power_watts": 412.346,
        "board_power_limit_requested_watts": 700,
        "board_power_limit_enforced_watts": 650,
        "gpu_energy_joules_total": 8_123_456.79,
        "pcie_replay_total": 4,
        "gpu_util_ratio": 0.86,
        "memory_util_ratio": 0.42,
        "enc_util_ratio": 0.12,
        "dec_util_ratio": 0.07,
        "fb_capacity_bytes": 81_559 * MIB,
        "fb_used_bytes": 20_001 * MIB,
        "fb_reserved_bytes": 576 * MIB,
        "fb_free_bytes": 60_982 * MIB,
        "bar1_used_bytes": 17 * MIB,
    }
    assert {key: second.quantities.get(key) for key in expected} == expected


def test_texts_of_a_gpu(nvml: MakeNvml) -> None:
    first, without = read(nvml(gpu(0), gpu(1, RTX_4090, minor=7)).library)
    assert first.texts == {
        "serial": "1650223000000",
        "vbios_version": "96.00.61.00.00",
        "inforom_image_version": "G520.0200.00.00",
        "inforom_oem_version": "2.0",
        "inforom_ecc_version": "6.10",
    }
    assert without.texts == {}


def test_identity_of_a_gpu_and_the_driver(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0), gpu(1, T4, minor=5))
    with Telemetry(str(mocked.library)) as telemetry:
        reading = telemetry.read()
    assert (reading.driver_version, reading.cuda_version) == ("550.163.01", "12.4")
    second = reading.gpus[1]
    assert (second.index, second.uuid) == ("1", "GPU-ab100001-c0de-4001-8001-000000001001")
    assert (second.pci_address, second.minor, second.model) == ("0000:1e:00.0", 5, "Tesla T4")


def test_values_that_a_gpu_does_not_tell_are_absent(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0, RTX_4090))
    mocked.values.remove("0", "power", "energy", "utilization_encoder", "bar1_total")
    quantities = read(mocked.library)[0].quantities
    absent = {"board_power_watts", "gpu_energy_joules_total", "enc_util_ratio", "bar1_used_bytes"}
    assert not absent & quantities.keys()
    assert quantities["dec_util_ratio"] == 0.07


def test_a_value_that_is_0_is_present(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.set("0", utilization_gpu=0, pcie_replay=0)
    quantities = read(mocked.library)[0].quantities
    assert (quantities["gpu_util_ratio"], quantities["pcie_replay_total"]) == (0, 0)


def test_values_follow_the_gpu_from_pass_to_pass(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.set("0", clock_sm=345, utilization_gpu=3, memory_used=MIB)
        quantities = telemetry.read().gpus[0].quantities
    assert quantities["sm_clock_hertz"] == 345_000_000
    assert quantities["gpu_util_ratio"] == 0.03
    assert quantities["fb_used_bytes"] == MIB


def test_what_is_not_supported_is_asked_once(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.remove("0", "power")
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        first = mocked.count("calls")
        telemetry.read()
        second = mocked.count("calls")
        mocked.values.remove("0", "clock_sm", "temperature")
        telemetry.read()
        third = mocked.count("calls")
        telemetry.read()
        assert mocked.count("calls") - third == second - first - 2


def test_what_is_not_supported_is_asked_again_after_a_minute(
    nvml: MakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    mocked = nvml(gpu(0))
    mocked.values.set("0", power="E3")
    mocked.values.fields("0", {82: "E3"})
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.set("0", power=1000)
        mocked.values.fields("0", {82: 70})
        assert "board_power_watts" not in telemetry.read().gpus[0].quantities
        later = time.monotonic() + 61
        monkeypatch.setattr("cdi_gen.telemetry.kept.time", SimpleNamespace(monotonic=lambda: later))
        quantities = telemetry.read().gpus[0].quantities
    assert (quantities["board_power_watts"], quantities["memory_temp_celsius"]) == (1, 70)


def test_a_refusal_may_be_temporary(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.set("0", power="E999", temperature="E4")
    with Telemetry(str(mocked.library)) as telemetry:
        assert "board_power_watts" not in telemetry.read().gpus[0].quantities
        mocked.values.set("0", power=1000, temperature=50)
        quantities = telemetry.read().gpus[0].quantities
    assert (quantities["board_power_watts"], quantities["gpu_temp_celsius"]) == (1, 50)


def test_processes_that_are_idle_and_busy(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.run("0", 101, memory=3 * MIB, sm=37, memory_share=21, encoder=5, decoder=6)
    mocked.values.run("0", 102, memory=4 * MIB)
    assert read(mocked.library)[0].processes == (
        ProcessReading(
            pid=101,
            memory=3 * MIB,
            utilization=0.37,
            memory_utilization=0.21,
            encoder_utilization=0.05,
            decoder_utilization=0.06,
        ),
        idle(102, 4 * MIB),
    )


def idle(pid: int, memory: int | None) -> ProcessReading:
    return ProcessReading(
        pid=pid,
        memory=memory,
        utilization=0,
        memory_utilization=0,
        encoder_utilization=0,
        decoder_utilization=0,
    )


def test_processes_without_a_sample_are_idle(nvml: MakeNvml) -> None:
    """NVML answers that it has found none."""
    mocked = nvml(gpu(0))
    mocked.values.run("0", 101, memory=MIB)
    assert read(mocked.library)[0].processes == (idle(101, MIB),)


def test_utilization_of_processes_that_nvml_does_not_tell_is_unknown(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.run("0", 101, memory=MIB, sm=50)
    mocked.values.set("0", process_utilization="E4")
    assert read(mocked.library)[0].processes == (ProcessReading(pid=101, memory=MIB),)


def test_memory_of_a_process_that_nvml_does_not_tell_is_unknown(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.run("0", 101)
    assert read(mocked.library)[0].processes == (idle(101, None),)


def test_processes_of_another_pid_namespace_are_left_out(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.run("0", 0, memory=MIB)
    mocked.values.run("0", 101, memory=MIB)
    assert read(mocked.library)[0].processes == (idle(101, MIB),)


def test_processes_of_compute_and_of_graphics(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.run("0", 101, memory=MIB)
    mocked.values.run("0", 102, memory=2 * MIB)
    mocked.values.run("0", 103, memory=3 * MIB, kind="graphics")
    assert read(mocked.library)[0].processes == (
        idle(101, MIB),
        idle(102, 2 * MIB),
        idle(103, 3 * MIB),
    )


def test_a_process_with_compute_and_graphics_is_counted_once(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    for kind in ("compute", "graphics"):
        mocked.values.run("0", 101, memory=MIB, kind=kind)
    assert read(mocked.library)[0].processes == (idle(101, MIB),)


def test_clients_of_mps_are_not_idle_because_they_have_no_sample(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.run("0", 100, memory=MIB, sm=70)  # the server
    mocked.values.run("0", 101, memory=MIB, kind="mps")
    mocked.values.run("0", 102, memory=MIB, sm=20, kind="mps")
    processes = read(mocked.library)[0].processes
    assert processes is not None
    assert [process.utilization for process in processes] == [0.7, None, 0.2]


@pytest.mark.parametrize("count", [32, 33, 500])
def test_any_number_of_processes(nvml: MakeNvml, count: int) -> None:
    mocked = nvml(gpu(0))
    for pid in range(count):
        mocked.values.run("0", 1000 + pid, memory=MIB, sm=1)
    processes = read(mocked.library)[0].processes
    assert processes is not None
    assert [process.pid for process in processes] == [*range(1000, 1000 + count)]
    assert {process.utilization for process in processes} == {0.01}


def test_processes_are_unknown_if_nvml_lists_none(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0), gpu(1))
    mocked.values.set("0", processes="E4")
    first, second = read(mocked.library)
    assert first.processes is None
    assert second.processes == ()


def test_mig_devices_have_memory_and_processes(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0), split(1))
    mocked.values.set("1:2", memory_used=100 * MIB, memory_reserved=MIB)
    mocked.values.run("1:2", 101, memory=3 * MIB, sm=50)
    mocked.values.run("1:6", 102, memory=4 * MIB)
    first, second = read(mocked.library)
    assert not first.mig_enabled
    assert second.mig_enabled
    assert second.processes == ()
    assert "gpu_util_ratio" not in second.quantities
    assert second.quantities["board_power_watts"] == 412.346
    assert [mig.index for mig in second.mig] == [f"1:{index}" for index in range(7)]
    mig = second.mig[2]
    assert mig.uuid == "MIG-ab100001-c0de-5009-8000-000000002042"
    assert (mig.profile, mig.gpu_instance, mig.compute_instance) == ("1g.5gb", 9, 0)
    assert mig.quantities == {
        "fb_capacity_bytes": 4864 * MIB,
        "fb_used_bytes": 100 * MIB,
        "fb_reserved_bytes": MIB,
        "fb_free_bytes": 4763 * MIB,
        "fb_used_ratio": 100 / 4863,
        "xid_error": 0,
    }
    assert mig.processes == (ProcessReading(pid=101, memory=3 * MIB),)
    assert [device.processes for device in second.mig if device.index != "1:2"] == [
        *[()] * 5,
        (ProcessReading(pid=102, memory=4 * MIB),),
    ]


def test_compute_instances_of_one_gpu_instance_have_their_own_processes(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0, A100, mig_enabled=True, mig=SHARED_INSTANCE))
    mocked.values.run("0:1", 101, memory=MIB)
    devices = read(mocked.library)[0].mig
    assert [(mig.profile, mig.gpu_instance, mig.compute_instance) for mig in devices] == [
        ("1c.3g.20gb", 2, 0),
        ("1c.3g.20gb", 2, 1),
        ("1c.3g.20gb", 2, 2),
        ("1g.5gb", 9, 0),
    ]
    assert [len(mig.processes or ()) for mig in devices] == [0, 1, 0, 0]


def test_processes_of_mig_devices_without_privileges(nvml: MakeNvml) -> None:
    """The list of the GPU is refused, those of its MIG devices are not."""
    mocked = nvml(split(0))
    mocked.values.set("0", processes="E4")
    mocked.values.run("0:3", os.getpid(), memory=MIB)
    devices = read(mocked.library)[0].mig
    assert devices[3].processes == (ProcessReading(pid=os.getpid(), memory=MIB),)
    assert devices[4].processes == ()
