# SPDX-License-Identifier: Apache-2.0
"""Asks the kubelet which devices it has allocated to which containers (PodResources, v1)."""

from __future__ import annotations

from typing import NamedTuple

import grpc

from cdi_gen.kubernetes.protocols import podresources_v1_pb2 as api

SOCKET = "/var/lib/kubelet/pod-resources/kubelet.sock"
METHOD = "/v1.PodResourcesLister/List"
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
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_BYTES),
    )
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=api.ListPodResourcesRequest.SerializeToString,
            response_deserializer=api.ListPodResourcesResponse.FromString,
        )
        try:
            response = call(api.ListPodResourcesRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            details = getattr(error, "details", None)
            raise KubeletError(details() if details else str(error)) from error
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
