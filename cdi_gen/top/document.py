# SPDX-License-Identifier: Apache-2.0
"""The JSON form of a snapshot; docs/top.md describes it, and a field keeps its meaning."""

from __future__ import annotations

from typing import Any

from cdi_gen.containers.model import HeldDevice, Holder
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from cdi_gen.telemetry.model import GpuReading, LinkReading, MigReading, ProcessReading

VERSION = 1
"""Changes only if a field loses its meaning; new fields do not change it."""


def document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as JSON's types; what is not known is null."""
    reading = snapshot.reading
    container_of = {
        process.pid: number
        for number, holder in enumerate(snapshot.holders)
        for process in holder.container.processes
    }
    uses: dict[tuple[int, str], ContainerUse] = {
        (use.holder.container.first.pid, use.device): use for use in snapshot.uses
    }
    return {
        "version": VERSION,
        "time": reading.time,
        "seconds": reading.seconds,
        "driverVersion": reading.driver_version or None,
        "cudaVersion": reading.cuda_version or None,
        "error": reading.error or None,
        "gpus": [_gpu(gpu, container_of) for gpu in reading.gpus],
        "containers": [_container(holder, uses) for holder in snapshot.holders],
        "host": [
            {
                "device": use.device,
                "processes": use.processes,
                "memory": use.memory,
                "utilization": use.utilization,
            }
            for use in snapshot.host_uses
        ],
        "runningContainers": snapshot.containers,
        "unseen": list(snapshot.unseen),
    }


def _gpu(gpu: GpuReading, container_of: dict[int, int]) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "pciAddress": gpu.pci_address,
        "minor": gpu.minor,
        "model": gpu.model,
        "fault": gpu.fault or None,
        "timeouts": gpu.timeouts,
        "quantities": dict(gpu.quantities),
        "clockEvents": sorted(gpu.clock_events),
        "clockEventCounts": dict(gpu.clock_event_counts),
        "xids": {str(xid): count for xid, count in gpu.xids.items()},
        "processes": _processes(gpu.processes, container_of),
        "migEnabled": gpu.mig_enabled,
        "migDevices": [_mig(device, container_of) for device in gpu.mig],
        "links": [_link(link) for link in gpu.links],
    }


def _mig(device: MigReading, container_of: dict[int, int]) -> dict[str, Any]:
    return {
        "index": device.index,
        "uuid": device.uuid,
        "profile": device.profile,
        "gpuInstance": device.gpu_instance,
        "computeInstance": device.compute_instance,
        "quantities": dict(device.quantities),
        "xids": {str(xid): count for xid, count in device.xids.items()},
        "processes": _processes(device.processes, container_of),
    }


def _link(link: LinkReading) -> dict[str, Any]:
    return {"number": link.number, "quantities": dict(link.quantities)}


def _processes(
    processes: tuple[ProcessReading, ...] | None, container_of: dict[int, int]
) -> list[dict[str, Any]] | None:
    """Return processes, each with the place of its container in ``containers``."""
    if processes is None:
        return None
    return [
        {
            "pid": process.pid,
            "container": container_of.get(process.pid),
            "memory": process.memory,
            "utilization": process.utilization,
            "memoryUtilization": process.memory_utilization,
            "encoderUtilization": process.encoder_utilization,
            "decoderUtilization": process.decoder_utilization,
        }
        for process in processes
    ]


def _container(holder: Holder, uses: dict[tuple[int, str], ContainerUse]) -> dict[str, Any]:
    container = holder.container
    origin = container.origin
    pod = origin.pod
    first = container.first.pid
    held = {device.index: device for device in holder.devices}
    used = {device for pid, device in uses if pid == first}
    return {
        "engine": origin.engine or None,
        "id": origin.id or None,
        "name": origin.name or None,
        "image": origin.image or None,
        "pod": {"namespace": pod.namespace, "name": pod.name, "container": pod.container}
        if pod
        else None,
        "unit": origin.unit or None,
        "user": origin.user or None,
        "pid": first,
        "privileged": container.is_privileged,
        "all": holder.has_all,
        "devices": [
            _device(index, held.get(index), uses.get((first, index)))
            for index in (*held, *sorted(used - held.keys()))
        ],
        "unseen": list(container.unseen),
    }


def _device(index: str, held: HeldDevice | None, use: ContainerUse | None) -> dict[str, Any]:
    """Return a device of a container; without a node in it the access is null."""
    return {
        "index": index,
        "access": held.access if held else None,
        "processes": use.processes if use else None,
        "memory": use.memory if use else None,
        "utilization": use.utilization if use else None,
        "memoryUtilization": use.memory_utilization if use else None,
        "encoderUtilization": use.encoder_utilization if use else None,
        "decoderUtilization": use.decoder_utilization if use else None,
    }
