# SPDX-License-Identifier: Apache-2.0
"""Asks the kubelet which devices it has allocated to which containers (PodResources, v1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc

from cdi_gen.kubernetes.protocols import podresources_v1_pb2 as api

SOCKET = "/var/lib/kubelet/pod-resources/kubelet.sock"
LIST = "/v1.PodResourcesLister/List"
ALLOCATABLE = "/v1.PodResourcesLister/GetAllocatableResources"
SECONDS = 2
MAX_BYTES = 16 << 20
"""The kubelet's own limit of an answer."""


class PodDevices(NamedTuple):
    """Devices that the kubelet has allocated to a container."""

    namespace: str
    pod: str
    container: str
    resource: str
    ids: tuple[str, ...]


class KubeletError(Exception):
    """The kubelet does not answer."""


def allocations(socket: str = SOCKET) -> tuple[PodDevices, ...]:
    """Return the devices of device plugins that containers of pods have.

    Raises:
        KubeletError: the kubelet refuses, or does not answer in time.
    """
    response = _call(socket, LIST, api.ListPodResourcesRequest(), api.ListPodResourcesResponse)
    return tuple(
        PodDevices(
            pod.namespace,
            pod.name,
            container.name,
            devices.resource_name,
            tuple(devices.device_ids),
        )
        for pod in response.pod_resources
        for container in pod.containers
        for devices in container.devices
    )


def allocatable(socket: str = SOCKET) -> dict[str, int]:
    """Return the number of devices that the kubelet can give to pods, by resource.

    They are those that device plugins advertise as healthy, allocated or not.

    Raises:
        KubeletError: as `allocations`.
    """
    request = api.AllocatableResourcesRequest()
    response = _call(socket, ALLOCATABLE, request, api.AllocatableResourcesResponse)
    numbers: dict[str, int] = {}
    # The kubelet lists devices of another NUMA node apart.
    for devices in response.devices:
        numbers[devices.resource_name] = numbers.get(devices.resource_name, 0) + len(
            devices.device_ids
        )
    return numbers


def _call(socket: str, method: str, request: Any, answer: Any) -> Any:
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_BYTES),
    )
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        call = channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, timeout=SECONDS)
        except grpc.RpcError as error:
            details = getattr(error, "details", None)
            raise KubeletError(details() if details else str(error)) from error
