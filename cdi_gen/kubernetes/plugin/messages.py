# SPDX-License-Identifier: Apache-2.0
"""Turns values into the messages of the device plugin API, v1beta1."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cdi_base.findings import Finding
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api
from cdi_gen.kubernetes.resources.allocation import Allocation
from cdi_gen.kubernetes.resources.device import Device, Resource

VERSION = "v1beta1"

HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"

MAX_LIST_BYTES = 4 << 20
"""The longest list of devices that a kubelet receives: the default of gRPC. It ends the connection
to a plugin that sends a longer one, and the node has 0 devices."""

PERMISSIONS = "rw"
"""Of device nodes. A container does not create nodes, so there is no ``m``."""


def device_list(devices: Iterable[Device], unhealthy: Collection[str]) -> api.ListAndWatchResponse:
    """Return the list of devices; ``unhealthy`` has the UUIDs of those that are not to be used."""
    return api.ListAndWatchResponse(
        devices=[
            api.Device(
                ID=device.id,
                health=UNHEALTHY if device.uuid in unhealthy else HEALTHY,
                topology=_topology(device.numa_node),
            )
            for device in devices
        ]
    )


def length_finding(resource: Resource) -> Finding | None:
    """Return why the kubelet cannot receive the list of a resource's devices; None if it can."""
    devices = resource.devices
    size = device_list(devices, {device.uuid for device in devices}).ByteSize()
    if size <= MAX_LIST_BYTES:
        return None
    replicas = max(device.replicas for device in devices)
    return Finding(
        "CDG-N113",
        "error",
        f"{resource.name} is not advertised: the list of its {len(devices)} devices has {size} "
        f"bytes, and the kubelet receives {MAX_LIST_BYTES}",
        subject=resource.name,
        fix=f"Set replicas to {replicas * MAX_LIST_BYTES // size} at most.",
    )


def _topology(numa_node: int | None) -> api.TopologyInfo | None:
    if numa_node is None:
        return None
    return api.TopologyInfo(nodes=[api.NUMANode(ID=numa_node)])


def allocate_response(allocation: Allocation) -> api.ContainerAllocateResponse:
    """Return the answer for one container."""
    return api.ContainerAllocateResponse(
        envs=allocation.envs,
        annotations=allocation.annotations,
        mounts=[
            api.Mount(
                host_path=mount.host_path,
                container_path=mount.container_path,
                read_only=mount.read_only,
            )
            for mount in allocation.mounts
        ],
        devices=[
            api.DeviceSpec(host_path=host, container_path=container, permissions=PERMISSIONS)
            for host, container in allocation.nodes
        ],
        cdi_devices=[api.CDIDevice(name=name) for name in allocation.cdi_devices],
    )
