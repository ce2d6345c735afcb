# SPDX-License-Identifier: Apache-2.0
"""Reads which processes use a GPU, how much memory they use, and for how much of the time."""

from __future__ import annotations

import time
from ctypes import Array, Structure, byref, c_uint, c_ulonglong, memset, sizeof
from dataclasses import replace
from typing import Any, NamedTuple

from cdi_gen.telemetry import library
from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.model import ProcessReading
from cdi_gen.telemetry.structures import (
    NO_INSTANCE,
    NOT_AVAILABLE,
    ProcessDetail,
    ProcessInfo,
    ProcessInfoV1,
    ProcessSample,
)

Instance = tuple[int, int]
"""The numbers of a GPU instance and a compute instance; `WHOLE` without MIG."""

WHOLE: Instance = (NO_INSTANCE, NO_INSTANCE)

_KINDS = ("Compute", "Graphics", "MPSCompute")
_MPS = 2
_VERSIONS: tuple[tuple[str, type[Structure]], ...] = (
    ("_v3", ProcessInfo),  # from 510
    ("_v2", ProcessInfo),
    ("", ProcessInfoV1),
)
"""Ends of the functions' names, and their entries in most drivers."""
_LAYOUTS = {sizeof(one): one for one in (ProcessInfoV1, ProcessInfo, ProcessDetail)}
"""By the size of an entry. Version 3 has them of each size, in 535.54 the largest ones."""
_UNWRITTEN = b"\xa5"
"""What no entry ends with: its last byte is the highest one of a small number, or of -1."""
_FIRST_LENGTH, _LARGEST_LENGTH = 32, 1 << 16
_PERCENT = 100
_SHORTEST = 2.0
"""Seconds; NVML takes more than one sample in it, so that a busy process is not idle by chance."""


class _Entry(NamedTuple):
    """An entry of NVML's, without its buffer, which the next call overwrites."""

    pid: int
    memory: int
    instance: Instance


class ProcessReader:
    """Reads the processes of one GPU; holds the buffers for them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[type[Structure], Array[Any]] = {}
        self._last = 0.0

    def read(self) -> dict[Instance, tuple[ProcessReading, ...]] | None:
        """Return the processes by their instance; None if NVML does not list processes.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        lists = _lists(self._device, self._buffers)
        processes = _by_instance(lists)
        if processes is None or not processes.get(WHOLE):
            return processes
        samples = self._samples()
        if samples is not None:
            newest, unknown = samples
            # Clients of MPS share the time slices of its server, which has the sample.
            unknown |= {entry.pid for entry in lists[_MPS] or ()}
            processes[WHOLE] = tuple(
                _with_sample(process, newest.get(process.pid))
                if process.pid in newest or process.pid not in unknown
                else process
                for process in processes[WHOLE]
            )
        return processes

    def _samples(self) -> tuple[dict[int, ProcessSample], set[int]] | None:
        """Return the newest sample of each process that was not idle since the last pass.

        Also the processes of which NVML has told shares that cannot be: some drivers do. It gives
        no sample of an idle process; if it has no sample at all it answers that it has found none.
        None: NVML does not tell.
        """
        now = time.monotonic()
        seconds = max(now - self._last, _SHORTEST) if self._last else _SHORTEST
        self._last = now
        since = int((time.time() - seconds) * 1e6)
        code, entries = _entries(
            self._device,
            "nvmlDeviceGetProcessUtilization",
            ProcessSample,
            self._buffers,
            c_ulonglong(since),
        )
        if code not in {library.SUCCESS, library.NOT_FOUND}:
            return None
        newest: dict[int, ProcessSample] = {}
        impossible: set[int] = set()
        for sample in entries:
            if sample.timestamp < since:
                continue
            if max(sample.sm, sample.memory, sample.encoder, sample.decoder) > _PERCENT:
                impossible.add(sample.pid)
                continue
            other = newest.get(sample.pid)
            if other is None or other.timestamp <= sample.timestamp:
                newest[sample.pid] = sample
        return newest, impossible


def list_processes(
    device: Device, buffers: dict[type[Structure], Array[Any]]
) -> dict[Instance, tuple[ProcessReading, ...]] | None:
    """Return the processes that NVML lists for a GPU or a MIG device.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    return _by_instance(_lists(device, buffers))


def _lists(device: Device, buffers: dict[type[Structure], Array[Any]]) -> list[list[_Entry] | None]:
    """Return NVML's entries of each of `_KINDS`."""
    return [_of_kind(device, kind, buffers) for kind in _KINDS]


def _by_instance(
    lists: list[list[_Entry] | None],
) -> dict[Instance, tuple[ProcessReading, ...]] | None:
    if lists[0] is None:
        return None
    by_instance: dict[Instance, dict[int, ProcessReading]] = {}
    for entries in lists:
        for entry in entries or ():
            if not entry.pid:
                continue  # a process that this PID namespace does not have
            memory = None if entry.memory == NOT_AVAILABLE else entry.memory
            # A process with compute and graphics is in both lists, with the same memory.
            by_instance.setdefault(entry.instance, {}).setdefault(
                entry.pid, ProcessReading(pid=entry.pid, memory=memory)
            )
    return {instance: tuple(processes.values()) for instance, processes in by_instance.items()}


def _of_kind(
    device: Device, kind: str, buffers: dict[type[Structure], Array[Any]]
) -> list[_Entry] | None:
    """Return NVML's entries; None if no function gives them."""
    for version, structure in _VERSIONS:
        name = f"nvmlDeviceGet{kind}RunningProcesses{version}"
        # NVML may write the largest entries, whatever the version.
        code, details = _entries(device, name, ProcessDetail, buffers)
        if code == library.SUCCESS:
            entries = _in_layout(buffers[ProcessDetail], len(details), structure)
            return [_Entry(entry.pid, entry.memory, _instance(entry)) for entry in entries]
        if device.nvml.has(name):
            return None
    return None


def _in_layout(buffer: Array[Any], count: int, usual: type[Structure]) -> Array[Any]:
    """Return the entries in the layout that NVML has written, which its version does not tell."""
    written = len(bytes(buffer).rstrip(_UNWRITTEN))
    size = written // count if count and written % count == 0 else 0
    return (_LAYOUTS.get(size, usual) * count).from_buffer(buffer)


def _instance(entry: Any) -> Instance:
    if isinstance(entry, ProcessInfoV1):
        return WHOLE
    return entry.gpu_instance, entry.compute_instance


def _entries(
    device: Device,
    name: str,
    structure: type[Structure],
    buffers: dict[type[Structure], Array[Any]],
    *arguments: Any,
) -> tuple[int, list[Any]]:
    """Call a function that fills an array; return its code and the entries, valid until the next.

    The number of processes may grow between two calls.
    """
    buffer = buffers.get(structure)
    if buffer is None:
        buffer = buffers[structure] = (structure * _FIRST_LENGTH)()
    memset(buffer, _UNWRITTEN[0], sizeof(buffer))
    count = c_uint(len(buffer))
    # The order is count, array; of samples it is array, count, time.
    order = (buffer, byref(count)) if arguments else (byref(count), buffer)
    code = device.code(name, *order, *arguments)
    if code == library.INSUFFICIENT_SIZE and len(buffer) < _LARGEST_LENGTH:
        length = min(max(2 * len(buffer), count.value + _FIRST_LENGTH), _LARGEST_LENGTH)
        buffers[structure] = (structure * length)()
        return _entries(device, name, structure, buffers, *arguments)
    if code != library.SUCCESS:
        return code, []
    return code, buffer[: min(count.value, len(buffer))]


def _with_sample(process: ProcessReading, sample: ProcessSample | None) -> ProcessReading:
    if sample is None:
        return replace(
            process,
            utilization=0.0,
            memory_utilization=0.0,
            encoder_utilization=0.0,
            decoder_utilization=0.0,
        )
    return replace(
        process,
        utilization=sample.sm / _PERCENT,
        memory_utilization=sample.memory / _PERCENT,
        encoder_utilization=sample.encoder / _PERCENT,
        decoder_utilization=sample.decoder / _PERCENT,
    )
