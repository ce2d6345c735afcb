# SPDX-License-Identifier: Apache-2.0
"""The types of what NVML measures in one pass over the GPUs of a host.

A value that NVML does not tell is absent, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Quantities = Mapping[str, float]
"""Values by the keys of ``specs/cdi_specs/metrics.json``, in base units: hertz, degrees Celsius,
watts, joules, bytes, bytes per second, seconds, ratios from 0 to 1, counts since the driver was
loaded. A key ends with its unit: ``sm_clock_hertz``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReading:
    """A process that uses a GPU or a MIG device."""

    pid: int
    """In this process's PID namespace."""
    memory: int | None = None
    """Bytes of GPU memory."""
    utilization: float | None = None
    """The share of the time in which its kernels ran on an SM, 0 to 1; 0 if the process was idle,
    None if NVML cannot tell (MIG)."""
    memory_utilization: float | None = None
    encoder_utilization: float | None = None
    decoder_utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigReading:
    """A MIG device."""

    index: str
    """``0:1``, as in CDI names and in `cdi_gen.containers.HeldDevice`."""
    uuid: str
    profile: str
    """``1g.10gb``"""
    gpu_instance: int
    compute_instance: int
    quantities: Quantities
    processes: tuple[ProcessReading, ...] | None = None
    """None: NVML does not list them."""
    xids: Mapping[int, int] = field(default_factory=dict)
    """The number of each Xid error since this program began to watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReading:
    """An NVLink of a GPU that is active."""

    number: int
    quantities: Quantities


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """A GPU."""

    index: str
    """``0``: NVML's index, as in CDI names and in `cdi_gen.containers.HeldDevice`."""
    uuid: str
    pci_address: str
    """``0000:3b:00.0``"""
    model: str
    quantities: Quantities
    """Empty if the GPU has a fault."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """What never changes, by the keys of ``labels`` in ``metrics.json``: ``serial``."""
    minor: int | None = None
    """N of ``/dev/nvidiaN``."""
    mig_enabled: bool = False
    mig: tuple[MigReading, ...] = ()
    links: tuple[LinkReading, ...] = ()
    processes: tuple[ProcessReading, ...] | None = None
    """None: NVML does not list them. Empty if MIG is enabled: see the MIG devices."""
    clock_events: frozenset[str] = frozenset()
    """The reasons for which the clocks are lowered now, as dcgm-exporter names them: ``power_cap``;
    the names are ``clock_events`` in ``metrics.json``."""
    clock_event_counts: Mapping[str, int] = field(default_factory=dict)
    """How often each reason began since this program began to watch."""
    xids: Mapping[int, int] = field(default_factory=dict)
    """The number of each Xid error since this program began to watch, of GPU instances too."""
    fault: str = ""
    """Why the GPU cannot be measured: NVML's error, or that it did not answer in time."""
    timeouts: int = 0
    """How often the GPU did not answer in time since this program began to watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The result of one pass."""

    time: float
    """Seconds since the epoch, at the end of the pass."""
    seconds: float
    """The duration of the pass."""
    driver_version: str = ""
    cuda_version: str = ""
    """``12.4``, of the driver."""
    gpus: tuple[GpuReading, ...] = ()
    """In NVML's order."""
    error: str = ""
    """Why NVML cannot be used at all: no driver, a library of another version."""
