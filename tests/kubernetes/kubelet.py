# SPDX-License-Identifier: Apache-2.0
"""The part of a kubelet that talks to device plugins, for tests without a cluster.

It behaves as kubelet 1.37 does: it deletes all sockets in its directory when it starts, calls back
before it answers a registration, and keeps ListAndWatch open.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from cdi_gen.kubernetes.plugin.registration import CHANNEL_OPTIONS
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api

SECONDS = 60
"""How long something may take on a busy machine; a test that succeeds does not wait for so long."""


class Plugin:
    """A registered plugin as the kubelet sees it."""

    def __init__(self, socket: Path) -> None:
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=CHANNEL_OPTIONS)
        self.lists: list[dict[str, str]] = []
        """Each list of devices that was received: health by id."""
        self.topology: dict[str, list[int]] = {}
        self.options = self.call("GetDevicePluginOptions", api.Empty(), api.DevicePluginOptions)
        stream = self.channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=api.Empty.SerializeToString,
            response_deserializer=api.ListAndWatchResponse.FromString,
        )
        self.stream: Any = stream(api.Empty())
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            for response in self.stream:
                self.topology = {
                    device.ID: [node.ID for node in device.topology.nodes]
                    for device in response.devices
                }
                self.lists.append({device.ID: device.health for device in response.devices})
        except grpc.RpcError:
            pass
        self.lists.append({})

    @property
    def devices(self) -> dict[str, str]:
        """The health of each device by its id."""
        return self.lists[-1] if self.lists else {}

    def allocate(self, *ids: str) -> api.ContainerAllocateResponse:
        """Return the answer for a container with these devices."""
        request = api.AllocateRequest(
            container_requests=[api.ContainerAllocateRequest(devices_ids=ids)]
        )
        response: api.AllocateResponse = self.call("Allocate", request, api.AllocateResponse)
        return response.container_responses[0]

    def call(self, method: str, request: Any, response: Any) -> Any:
        """Call a method of the plugin."""
        call = self.channel.unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=SECONDS)


class Kubelet:
    """The kubelet's registration service, and the plugins that registered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "kubelet.sock"
        self.plugins: dict[str, Plugin] = {}
        self.registrations: list[str] = []
        self.refusal: str | None = None
        """The reason for which registrations are refused."""
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Delete the sockets in the directory, and accept registrations."""
        for path in self.directory.iterdir():
            if path.is_socket():
                path.unlink()
        self._executor = ThreadPoolExecutor(8)
        server = grpc.server(self._executor)
        handler = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=api.RegisterRequest.FromString,
            response_serializer=api.Empty.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler}),)
        )
        server.add_insecure_port(f"unix:{self.socket}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """End as by SIGKILL: connections break, files stay."""
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._executor.shutdown(wait=False)
        for plugin in self.plugins.values():
            plugin.channel.close()
        self.plugins.clear()

    def restart(self) -> None:
        """End and start again."""
        self.stop()
        self.start()

    def _register(self, request: Any, context: Any) -> Any:
        if self.refusal is not None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refusal)
        plugin = Plugin(self.directory / request.endpoint)
        old = self.plugins.get(request.resource_name)
        # In this order: who sees the plugin's devices sees its registration.
        self.registrations.append(request.resource_name)
        self.plugins[request.resource_name] = plugin
        if old is not None:
            old.channel.close()
        return api.Empty()

    def devices(self, resource: str) -> dict[str, str]:
        """Return the health of the devices of a resource by their ids."""
        plugin = self.plugins.get(resource)
        return plugin.devices if plugin else {}


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not hold in time"
        time.sleep(0.01)


def thread_count() -> int:
    """Return the number of threads of this process, those of gRPC's core included."""
    return len(os.listdir("/proc/self/task"))
