# SPDX-License-Identifier: Apache-2.0
"""Messages that no kubelet sends: the plugin refuses them and goes on.

Only root can open the socket, but a pod that has the kubelet's directory mounted is root as well.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cdi_gen.kubernetes.plugin.observer import Observers
from cdi_gen.kubernetes.plugin.registration import CHANNEL_OPTIONS
from cdi_gen.kubernetes.plugin.server import MAX_REQUEST_BYTES, THREADS, ResourceServer, State
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api
from cdi_gen.kubernetes.resources.device import Device, Resource
from cdi_gen.kubernetes.settings import DEFAULTS
from tests.kubernetes.kubelet import SECONDS

METHODS = ("Allocate", "GetPreferredAllocation", "GetDevicePluginOptions", "PreStartContainer")
DEVICES = tuple(Device(id=f"GPU-{n}", uuid=f"GPU-{n}", index=str(n), gpu_index=n) for n in range(8))
REFUSALS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    with tempfile.TemporaryDirectory() as folder:
        resource = Resource(name="nvidia.com/gpu", devices=DEVICES)
        server = ResourceServer(State(resource=resource, settings=DEFAULTS), folder, Observers())
        server.start()
        with grpc.insecure_channel(f"unix:{Path(server.path)}", options=CHANNEL_OPTIONS) as opened:
            yield opened
        server.stop()


def call(channel: grpc.Channel, method: str, content: bytes) -> bytes | grpc.StatusCode:
    """Send bytes to a method; return its answer or its refusal."""
    raw: Any = channel.unary_unary(f"/v1beta1.DevicePlugin/{method}")
    try:
        answer: bytes = raw(content, timeout=SECONDS)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return answer


def is_well(channel: grpc.Channel) -> bool:
    request = api.AllocateRequest(
        container_requests=[api.ContainerAllocateRequest(devices_ids=["GPU-3"])]
    )
    answer = call(channel, "Allocate", request.SerializeToString())
    assert isinstance(answer, bytes)
    devices = api.AllocateResponse.FromString(answer).container_responses[0].cdi_devices
    return [device.name for device in devices] == ["k8s.device-plugin.nvidia.com/gpu=GPU-3"]


@pytest.mark.parametrize("method", METHODS)
def test_random_bytes_are_refused_or_answered(channel: grpc.Channel, method: str) -> None:
    generator = random.Random(method)
    for size in (0, 1, 2, 3, 10, 100, 1000) * 20:
        answer = call(channel, method, generator.randbytes(size))
        assert isinstance(answer, bytes) or answer in REFUSALS
    assert is_well(channel)


@pytest.mark.parametrize(
    "request_",
    [
        api.PreferredAllocationRequest(
            container_requests=[
                api.ContainerPreferredAllocationRequest(
                    available_deviceIDs=["GPU-0", "GPU-1"], allocation_size=size
                )
            ]
        )
        for size in (-(2**31), -1, 0, 2**31 - 1)
    ],
    ids=lambda request: str(request.container_requests[0].allocation_size),
)
def test_a_size_that_no_pod_has_is_harmless(
    channel: grpc.Channel, request_: api.PreferredAllocationRequest
) -> None:
    answer = call(channel, "GetPreferredAllocation", request_.SerializeToString())
    assert isinstance(answer, bytes)
    (container,) = api.PreferredAllocationResponse.FromString(answer).container_responses
    assert set(container.deviceIDs) <= {"GPU-0", "GPU-1"}


def test_a_request_for_very_many_devices_is_refused(channel: grpc.Channel) -> None:
    many = api.ContainerAllocateRequest(devices_ids=["GPU-0"] * 20_000)
    request = api.AllocateRequest(container_requests=[many])
    assert isinstance(call(channel, "Allocate", request.SerializeToString()), bytes)
    content = b"\n" + bytes(MAX_REQUEST_BYTES)
    assert call(channel, "Allocate", content) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert is_well(channel)


def test_a_method_that_does_not_exist_is_refused(channel: grpc.Channel) -> None:
    assert call(channel, "Delete", b"") == grpc.StatusCode.UNIMPLEMENTED


def test_calls_are_answered_beside_open_streams(channel: grpc.Channel) -> None:
    """A kubelet that restarts leaves its old stream open for a moment."""
    listing: Any = channel.unary_stream(
        "/v1beta1.DevicePlugin/ListAndWatch",
        response_deserializer=api.ListAndWatchResponse.FromString,
    )
    streams = [listing(b"") for _ in range(THREADS - 1)]
    for stream in streams:
        assert len(next(stream).devices) == 8
    assert is_well(channel)
    for stream in streams:
        stream.cancel()
