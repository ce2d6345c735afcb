# SPDX-License-Identifier: Apache-2.0
"""What the mock of NVML answers about GPUs at the moment: a test changes it while programs run.

    values = NvmlValues(fake.nvml)
    values.set("0", clock_sm=1980, power=412_000)
    values.run("0:1", pid=1234, memory=512 << 20)
    values.raise_xid("0", 79)
    values.hang("3")

Each call takes effect at once. The names of values are the keys in ``nvml_mock_measures.c`` and
``nvml_mock_events.c``, in NVML's units. A value that was never set is one that the GPU does not
support. A device is an NVML index, ``0``, or an index with that of a MIG device, ``0:1``.
"""

from __future__ import annotations

import os
from pathlib import Path

FILE = "nvml-mock.values"
"""Beside the library."""

NOT_FOUND = 6

XID, CLOCK = 0x8, 0x10
"""Types of events."""

ALL_DEVICES = "*"
NOT_TOLD = -1

CLOCK_REASONS = {
    "gpu_idle": 0x1,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}


class NvmlValues:
    """The values of a host's GPUs.

    Args:
        library: the host's mock, `FakeHost.nvml`.
    """

    def __init__(self, library: Path) -> None:
        self.path = library.resolve().with_name(FILE)
        self._values: dict[tuple[str, str], str] = {}
        self._states: dict[str, str] = {}
        self._processes: dict[tuple[str, int, str], str] = {}
        self._events: list[str] = []

    def set(self, device: str, **values: float | str) -> None:
        """Answer with these values; ``"E4"`` answers with the NVML code 4, ``"45u"`` sets the type."""
        self._values |= {(device, key): str(value) for key, value in values.items()}
        self.write()

    def of(self, device: str) -> dict[str, str]:
        """Return the values of a device."""
        return {key: value for (name, key), value in self._values.items() if name == device}

    def fields(self, device: str, values: dict[int | str, float | str]) -> None:
        """Answer for these field ids, with ``138@3`` for those of link 3."""
        self.set(device, **{f"field_{name}": value for name, value in values.items()})

    def remove(self, device: str, *keys: str) -> None:
        """Support these values no more."""
        for key in keys:
            self._values.pop((device, key), None)
        self.write()

    def run(
        self,
        device: str,
        pid: int,
        *,
        memory: int = NOT_TOLD,
        sm: int = NOT_TOLD,
        memory_share: int = 0,
        encoder: int = 0,
        decoder: int = 0,
        kind: str = "compute",
    ) -> None:
        """Let a process use the device; without ``sm`` it is idle."""
        self._processes[device, pid, kind] = f"{memory} {sm} {memory_share} {encoder} {decoder}"
        self.write()

    def end(self, device: str, pid: int) -> None:
        """Let a process use the device no more."""
        for kind in ("compute", "graphics", "mps"):
            self._processes.pop((device, pid, kind), None)
        self.write()

    def raise_event(self, device: str, kind: int, data: int = 0) -> None:
        """Send an event to all programs that wait for it."""
        self._events.append(f"{device} event {len(self._events) + 1} {kind} {data}")
        self.write()

    def raise_xid(self, device: str, number: int) -> None:
        """Send the event of an Xid error."""
        self.raise_event(device, XID, number)

    def hang(self, device: str) -> None:
        """Answer no question about the GPU before `recover`; ``*`` is NVML's initialisation too."""
        self.state(device, "hang")

    def fail(self, device: str, code: int) -> None:
        """Answer all questions about the GPU, or with ``*`` all questions, with an NVML code."""
        self.state(device, f"E{code}")

    def destroy(self, device: str) -> None:
        """Destroy a MIG device, until `recover` creates it again."""
        self.fail(device, NOT_FOUND)

    def recover(self, device: str) -> None:
        """Answer questions again."""
        self._states.pop(device, None)
        self.write()

    def state(self, device: str, state: str) -> None:
        """Change the state of a GPU."""
        self._states[device] = state
        self.write()

    def write(self) -> None:
        """Replace the file that the mock reads."""
        lines = [f"{device} state {state}" for device, state in self._states.items()]
        lines += [f"{device} {key} {value}" for (device, key), value in self._values.items()]
        lines += [
            f"{device} process {pid} {kind} {numbers}"
            for (device, pid, kind), numbers in self._processes.items()
        ]
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        temporary.write_text("\n".join([*lines, *self._events]) + "\n", encoding="ascii")
        temporary.replace(self.path)


def set_typical(values: NvmlValues, device: str, number: int = 0) -> None:
    """Give a GPU all values that an H100 has; those of GPUs with different numbers differ."""
    mib = 1 << 20
    values.set(
        device,
        clock_graphics=1755 + number,
        clock_sm=1755 + number,
        clock_memory=2619 + number,
        clock_video=1545 + number,
        clock_sm_max=1980,
        clock_memory_max=2619,
        clock_video_max=1980,
        clock_sm_app=1830,
        clock_memory_app=2619,
        clock_reasons=CLOCK_REASONS["sw_power_cap"],
        temperature=61 + number,
        power=412_345 + number,
        power_limit=700_000,
        power_limit_enforced=650_000,
        energy=8_123_456_789 + number,
        performance_state=0,
        pcie_replay=3 + number,
        pcie_generation=5,
        pcie_width=16,
        utilization_gpu=87 - number,
        utilization_memory=43 - number,
        utilization_encoder=12,
        utilization_decoder=7,
        memory_used=(20_000 + number) * mib,
        memory_reserved=576 * mib,
        bar1_total=131_072 * mib,
        bar1_used=(16 + number) * mib,
        rows_correctable=2 + number,
        rows_uncorrectable=1,
        rows_pending=0,
        rows_failed=0,
        **SELDOM,
    )
    values.fields(device, FIELDS)
    values.set(device, **{f"gpm_{metric}": value for metric, value in GPM.items()})


SELDOM: dict[str, float] = {
    "power_limit_default": 690_000,
    "power_limit_min": 200_000,
    "power_limit_max": 710_000,
    "pcie_generation_max": 6,
    "pcie_width_max": 8,
    "compute_mode": 3,
    "persistence_mode": 1,
    "ecc_mode": 1,
    "ecc_mode_pending": 0,
    "temperature_shutdown": 92,
    "temperature_slowdown": 89,
    "temperature_memory_max": 95,
    "temperature_gpu_max": 87,
    "temperature_margin": 26,
    "pcie_sent": 1_111,
    "pcie_received": 2_222,
    "banks_max": 635,
    "banks_high": 3,
    "banks_partial": 2,
    "banks_low": 1,
    "banks_none": 0,
    "sram_exceeded": 0,
    "fabric_health": 0x2A,
    "fabric_summary": 1,
}

FIELDS: dict[int | str, float | str] = {
    3: 4,  # ECC: corrected and uncorrected, since the driver was loaded and ever
    4: 1,
    5: 14,
    6: 2,
    29: 5,  # retired pages
    30: 1,
    31: "0u",
    38: 6,  # errors of NVLinks
    45: 7,
    52: 8,
    59: 9,
    74: 7_000_000_000,  # nanoseconds of throttling
    75: 2_000_000_000,
    76: 0,
    77: 1_000_000_000,
    78: 0,
    79: 0,
    80: 9_000_000_000,
    81: 4_000_000_000,
    82: "72u",  # temperature of the memory
    142: "2u",  # remapped rows
    143: "1u",
    144: "0u",
    145: "0u",
    185: "398000u",
    186: "415000u",
}

GPM: dict[int, float] = {
    1: 91.5,
    2: 80.25,
    3: 40.5,
    4: 22.5,
    5: 55.75,
    6: 0.5,
    7: 45.5,
    9: 9.75,
    10: 33.25,
    11: 1.5,
    12: 12.5,
    13: 6.25,
    20: 1500.0,
    21: 2500.0,
    60: 3000.0,
    61: 4000.0,
}
