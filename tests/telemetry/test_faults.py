# SPDX-License-Identifier: Apache-2.0
"""GPUs that hang, are lost and come back; a driver that is unloaded, replaced and loaded again."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.telemetry import GpuReading, Reading, Telemetry
from cdi_gen.telemetry.gpu import Gpu
from cdi_gen.telemetry.slot import Slot
from tests.fakehost.gpus import H100, T4, gpu, several, split
from tests.fakehost.nvml_mock import DRIVER_NOT_LOADED, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH
from tests.telemetry.fixtures import MakeNvml
from tests.telemetry.mocked import Mocked, until

SHORT = 1.5
"""Seconds: the deadline where a GPU hangs. The others must answer within it on a busy machine."""
LONG = 60.0

NVLINK_ERRORS = {
    f"nvlink_{kind}_error_total" for kind in ("crc_flit", "crc_data", "replay", "recovery")
}
UUIDS = [one.uuid for one in several(3)]


@contextmanager
def hanging(mocked: Mocked, device: str) -> Iterator[None]:
    mocked.values.hang(device)
    try:
        yield
    finally:
        mocked.values.recover(device)


def faults(reading: Reading) -> list[str]:
    return [one.fault for one in reading.gpus]


def test_a_gpu_that_hangs_delays_no_other(nvml: MakeNvml) -> None:
    mocked = nvml(*several(3))
    with Telemetry(str(mocked.library), deadline=SHORT) as telemetry:
        telemetry.read()
        with hanging(mocked, "1"):
            readings = [telemetry.read() for _ in range(3)]
        for passes, reading in enumerate(readings, start=1):
            assert faults(reading) == ["", "the GPU has not answered within 1.5 s", ""]
            assert [one.timeouts for one in reading.gpus] == [0, passes, 0]
            assert [one.uuid for one in reading.gpus] == UUIDS
            assert not reading.gpus[1].quantities
            assert reading.gpus[1].processes is None
            assert reading.gpus[2].quantities["gpu_temp_celsius"] == 63


def test_a_gpu_that_hung_is_measured_when_it_has_answered(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    with Telemetry(str(mocked.library), deadline=SHORT) as telemetry:
        with hanging(mocked, "1"):
            assert faults(telemetry.read())[1]
            mocked.values.set("1", temperature=99)
        measured = until(lambda: _whole(telemetry.read().gpus[1]))
    assert measured.quantities["gpu_temp_celsius"] == 99
    assert measured.timeouts >= 1


def _whole(reading: GpuReading) -> GpuReading | None:
    return None if reading.fault else reading


def test_a_gpu_that_hangs_is_asked_once(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    with Telemetry(str(mocked.library), deadline=SHORT) as telemetry:
        telemetry.read()
        before = mocked.count("calls")
        telemetry.read()
        of_one_pass = mocked.count("calls") - before
        with hanging(mocked, "0"):
            telemetry.read()
            threads = threading.active_count()
            for _ in range(9):
                telemetry.read()
            assert threading.active_count() == threads
            before = mocked.count("calls")
        until(lambda: _whole(telemetry.read().gpus[0]))
        # The pass that hung, and the one that measured.
        assert mocked.count("calls") - before <= 3 * of_one_pass


def test_nvml_that_hangs_in_its_initialisation(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    with Telemetry(str(mocked.library), deadline=SHORT) as telemetry:
        with hanging(mocked, "*"):
            for _ in range(2):
                reading = telemetry.read()
                assert reading.error == "NVML has not initialised within 1.5 s"
                assert reading.gpus == ()
        until(lambda: telemetry.read().gpus)


def test_closing_does_not_wait_for_a_gpu_that_hangs(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    telemetry = Telemetry(str(mocked.library), deadline=SHORT)
    telemetry.read()
    with hanging(mocked, "1"):
        telemetry.read()
        telemetry.close()
        assert [thread.name for thread in threading.enumerate() if "gpu" in thread.name] == [
            "gpu 1"
        ]
        until(lambda: not any(thread.name == "nvml" for thread in threading.enumerate()))
        assert mocked.count("users") == 1  # NVML must not be ended under the thread


def test_closing_during_a_hung_initialisation_ends_nvml_later(nvml: MakeNvml) -> None:
    mocked = nvml(*several(1))
    telemetry = Telemetry(str(mocked.library), deadline=SHORT)
    with hanging(mocked, "*"):
        assert telemetry.read().error
        telemetry.close()
    until(lambda: not any(thread.name == "nvml" for thread in threading.enumerate()))
    assert mocked.count("users") == 0


def test_a_gpu_that_is_lost_and_comes_back(nvml: MakeNvml) -> None:
    mocked = nvml(*several(3))
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        telemetry.read()
        mocked.values.fail("1", GPU_IS_LOST)
        for _ in range(2):
            reading = telemetry.read()
            assert faults(reading) == ["", "GPU is lost", ""]
            assert reading.gpus[1].uuid == UUIDS[1]
            assert not reading.gpus[1].quantities
        mocked.values.recover("1")
        reading = telemetry.read()
    assert faults(reading) == ["", "", ""]
    assert reading.gpus[1].quantities["gpu_temp_celsius"] == 62


def test_a_gpu_that_is_lost_from_the_start(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    mocked.values.fail("0", GPU_IS_LOST)
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        reading = telemetry.read()
        assert [(one.index, one.fault) for one in reading.gpus] == [("0", "GPU is lost"), ("1", "")]
        mocked.values.recover("0")
        assert [one.uuid for one in telemetry.read().gpus] == UUIDS[:2]


def test_a_gpu_that_answers_nothing_has_a_fault(nvml: MakeNvml) -> None:
    unknown_error = 999
    mocked = nvml(*several(2))
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        telemetry.read()
        mocked.values.fail("1", unknown_error)
        for _ in range(2):
            assert faults(telemetry.read()) == ["", "Unknown Error"]
        mocked.values.recover("1")
        assert faults(telemetry.read()) == ["", ""]


@pytest.mark.parametrize("group", ["nvlink", "profiling"])
def test_a_gpu_without_the_wanted_values_has_no_fault(nvml: MakeNvml, group: str) -> None:
    mocked = nvml(gpu(0, T4))
    with Telemetry(str(mocked.library), groups=frozenset({group})) as telemetry:
        for _ in range(2):
            reading = telemetry.read().gpus[0]
            assert (reading.fault, reading.quantities.keys() - NVLINK_ERRORS) == ("", set())


def test_an_unexpected_error_of_one_gpu_does_not_hide_the_others(
    nvml: MakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Gpu.measure

    def measure(one: Gpu) -> GpuReading:
        if one.identity.uuid == UUIDS[0]:
            raise ValueError("bad")
        return original(one)

    mocked = nvml(*several(2))
    monkeypatch.setattr(Gpu, "measure", measure)
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        assert faults(telemetry.read()) == ["ValueError: bad", ""]


def test_a_gpu_that_only_a_new_initialisation_finds(
    nvml: MakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    mocked = nvml(gpu(0), gpu(1))
    mocked.describe((gpu(0), gpu(1, nvml_handle_code=GPU_IS_LOST)))
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        assert faults(telemetry.read()) == ["", "GPU is lost"]
        mocked.describe((gpu(0), gpu(1)))
        assert faults(telemetry.read()) == ["", "GPU is lost"]
        monkeypatch.setattr("cdi_gen.telemetry.telemetry._RETRY_SECONDS", 0)
        assert faults(telemetry.read()) == ["", "GPU is lost"]
        assert faults(telemetry.read()) == ["", ""]


def test_no_driver_is_installed() -> None:
    with Telemetry(lambda: None) as telemetry:
        reading = telemetry.read()
    assert reading.error == "libnvidia-ml is not installed"
    assert reading.gpus == ()


def test_a_driver_that_cannot_be_used() -> None:
    def find() -> str:
        raise CdiGenError("the libraries are missing", code="CDG-H003")

    with Telemetry(find) as telemetry:
        assert telemetry.read().error == "the libraries are missing"
        assert telemetry.read().error == "the libraries are missing"


@pytest.mark.parametrize("code", [DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH])
def test_a_driver_that_is_loaded_later(nvml: MakeNvml, code: int) -> None:
    mocked = nvml(*several(1))
    mocked.values.fail("*", code)
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        assert telemetry.read().error.startswith("NVML does not initialise: Driver")
        mocked.values.recover("*")
        reading = telemetry.read()
    assert (reading.error, len(reading.gpus)) == ("", 1)


def test_ended_sessions_leave_no_memory(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    gc.collect()
    gc.disable()
    try:
        with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
            for _ in range(5):
                mocked.values.fail("*", DRIVER_NOT_LOADED)
                telemetry.read()
                assert telemetry.read().error
                mocked.values.recover("*")
                assert len(telemetry.read().gpus) == 2
            slots = [value for value in gc.get_objects() if type(value) is Slot]
            assert len(slots) <= 2 * 2
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["missing", "no-library"])
def test_a_library_that_does_not_load(nvml: MakeNvml, name: str) -> None:
    mocked = nvml(gpu(0))
    path = mocked.library.with_name(name)
    if name == "no-library":
        path.write_text("text")
    with Telemetry(str(path)) as telemetry:
        assert telemetry.read().error.startswith(f"{path} does not load: ")


def test_a_driver_that_is_unloaded_and_replaced(nvml: MakeNvml) -> None:
    """Another library with other GPUs at the same path, as after an update without a restart."""
    mocked = nvml(*several(2))
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        assert telemetry.read().driver_version == "550.163.01"
        mocked.values.fail("*", DRIVER_NOT_LOADED)
        assert faults(telemetry.read()) == ["Driver Not Loaded"] * 2
        assert telemetry.read().error == "NVML does not initialise: Driver Not Loaded"
        replacement = mocked.library.with_name("new")
        code = mocked.library.read_bytes().replace(b"GPU is lost", b"GPU is gone")
        replacement.write_bytes(code)
        replacement.replace(mocked.library)
        mocked.describe(several(3), version="580.65.06")
        mocked.values.recover("*")
        reading = telemetry.read()
        mocked.values.fail("0", GPU_IS_LOST)
        assert faults(telemetry.read()) == ["GPU is gone", "", ""]  # says the new library
    assert (reading.driver_version, len(reading.gpus)) == ("580.65.06", 3)
    assert [one.uuid for one in reading.gpus] == UUIDS


def test_gpus_that_are_added_and_removed(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    listing = mocked.library.parent / "proc/driver/nvidia/gpus"
    for one in several(2):
        (listing / one.pci_address).mkdir(parents=True)
    root = str(mocked.library.parent)
    with Telemetry(str(mocked.library), host_root=root, deadline=LONG) as telemetry:
        assert len(telemetry.read().gpus) == 2
        mocked.describe(several(3))
        (listing / several(3)[2].pci_address).mkdir()
        assert [one.uuid for one in telemetry.read().gpus] == UUIDS
        mocked.describe(several(3)[1:])
        (listing / several(3)[0].pci_address).rmdir()
        assert [one.uuid for one in telemetry.read().gpus] == UUIDS[1:]


def test_timeouts_are_kept_when_nvml_is_initialised_again(nvml: MakeNvml) -> None:
    mocked = nvml(*several(1))
    with Telemetry(str(mocked.library), deadline=SHORT) as telemetry:
        telemetry.read()
        with hanging(mocked, "0"):
            telemetry.read()
        until(lambda: _whole(telemetry.read().gpus[0]))
        mocked.values.fail("*", DRIVER_NOT_LOADED)
        telemetry.read()
        mocked.values.recover("*")
        reading = until(lambda: telemetry.read().gpus)[0]
    assert reading.timeouts >= 1


def test_nothing_is_left_of_gpus_that_come_and_go(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0), split(1, H100))
    with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
        telemetry.read()

        def use() -> tuple[int, ...]:
            return (
                *(mocked.count(name) for name in ("gpm_samples", "event_sets", "users")),
                threading.active_count(),
                len(os.listdir("/proc/self/fd")),
            )

        before = use()
        for _ in range(20):
            mocked.values.fail("0", GPU_IS_LOST)
            mocked.values.destroy("1:5")
            telemetry.read()
            mocked.values.recover("0")
            mocked.values.recover("1:5")
            telemetry.read()
            mocked.values.fail("*", DRIVER_NOT_LOADED)
            telemetry.read()
            mocked.values.recover("*")
            telemetry.read()
        assert use() == before
    assert mocked.count("gpm_samples") == 0


def test_nothing_is_left_of_a_session(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    for _ in range(3):
        with Telemetry(str(mocked.library), deadline=LONG) as telemetry:
            telemetry.read()
        assert mocked.count("users") == 0
        assert mocked.count("event_sets") == 0
        assert mocked.count("gpm_samples") == 0


def test_root_does_not_load_a_library_that_others_can_change(
    nvml: MakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    mocked = nvml(gpu(0))
    mocked.library.chmod(0o666)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with Telemetry(str(mocked.library)) as telemetry:
        assert telemetry.read().error.startswith(f"root does not load {mocked.library}: ")
