# SPDX-License-Identifier: Apache-2.0
"""What processes of a node use, and how fast the plugin answers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc

from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api
from cdi_gen.kubernetes.protocols import podresources_v1_pb2 as resources
from tests.lab.kubernetes.node import Node


class Usage(NamedTuple):
    """The memory of a process, and the processor time that it has used."""

    resident_kib: int
    cpu_seconds: float


class Seen(NamedTuple):
    """A device as the kubelet knows it."""

    identifier: str
    numa_nodes: tuple[int, ...]


def usage(node: Node, pid: int) -> Usage:
    """Return the usage of a process of the node; ``pid`` is its id there."""
    return parse_usage(
        _proc(node, pid, "status").read_text("utf-8"), _proc(node, pid, "stat").read_text("utf-8")
    )


def parse_usage(status: str, stat: str) -> Usage:
    """Return the usage that two files of proc(5) tell."""
    fields = dict(line.split(":", 1) for line in status.splitlines())
    ticks = stat.rpartition(")")[2].split()[11:13]  # utime, stime
    hertz = os.sysconf("SC_CLK_TCK")
    return Usage(int(fields.get("VmRSS", "0").split()[0]), sum(map(int, ticks)) / hertz)


def processor_time(node: Node, pid: int) -> dict[str, float]:
    """Return the seconds of processor time that each thread of a process of the node has used.

    The scheduler's own numbers, in nanoseconds: in a minute of an idle process clock ticks see nothing.
    """
    threads = {}
    for task in _proc(node, pid, "task").iterdir():
        name = (task / "comm").read_text("utf-8").strip()
        nanoseconds = int((task / "schedstat").read_text("ascii").split()[0])
        threads[f"{name} {task.name}"] = nanoseconds / 1e9
    return threads


def children(node: Node, pid: int) -> list[int]:
    """Return the ids of the children of a process of the node."""
    tasks = _proc(node, pid, "task").iterdir()
    return sorted(int(child) for task in tasks for child in (task / "children").read_text().split())


def _proc(node: Node, pid: int, name: str) -> Path:
    return Path(f"/proc/{node.inside.init}/root", "proc", str(pid), name)


def allocatable(node: Node, resource: str) -> list[Seen]:
    """Return the devices of a resource that the kubelet knows, healthy or not."""
    with grpc.insecure_channel(f"unix:{node.pod_resources}") as channel:
        call = channel.unary_unary(
            "/v1.PodResourcesLister/GetAllocatableResources",
            request_serializer=resources.AllocatableResourcesRequest.SerializeToString,
            response_deserializer=resources.AllocatableResourcesResponse.FromString,
        )
        answer = call(resources.AllocatableResourcesRequest(), timeout=10)
    return [
        Seen(identifier, tuple(numa.ID for numa in devices.topology.nodes))
        for devices in answer.devices
        if devices.resource_name == resource
        for identifier in devices.device_ids
    ]


def allocate(socket: Path, identifier: str, count: int) -> list[float]:
    """Call Allocate for one device so many times; return the seconds of each call."""
    request = api.AllocateRequest(
        container_requests=[api.ContainerAllocateRequest(devices_ids=[identifier])]
    )
    seconds = []
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        call = channel.unary_unary(
            "/v1beta1.DevicePlugin/Allocate",
            request_serializer=api.AllocateRequest.SerializeToString,
            response_deserializer=api.AllocateResponse.FromString,
        )
        for _ in range(count):
            begin = time.perf_counter()
            call(request, timeout=10)
            seconds.append(time.perf_counter() - begin)
    return seconds


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of the values that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
