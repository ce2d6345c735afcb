# SPDX-License-Identifier: Apache-2.0
"""The engine's side of NRI, as containerd has it: accepts a plugin and calls it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdi_gen.kubernetes.nri.frames import PLUGIN, REQUEST, RESPONSE, RUNTIME, Message, Reader
from cdi_gen.kubernetes.protocols import nri_v1alpha1_pb2 as nri
from cdi_gen.kubernetes.protocols import ttrpc_pb2 as ttrpc

SERVICE = "nri.pkg.api.v1alpha1.Plugin"
SECONDS = 60.0


def spread(message: Message, size: int = 11) -> bytes:
    """Return a message in frames of a few bytes, as Go's buffered writers may spread it."""
    content = struct.pack(">IIBB", len(message.payload), message.stream, message.kind, 0)
    content += message.payload
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(struct.pack(">II", message.connection, len(part)) + part for part in parts)


def create_request(
    namespace: str, annotations: dict[str, str], container: str = "main", *existing: str
) -> nri.CreateContainerRequest:
    """Return the request for a container of a pod."""
    return nri.CreateContainerRequest(
        pod=nri.PodSandbox(name="pod", namespace=namespace, annotations=annotations),
        container=nri.Container(
            name=container, CDI_devices=[nri.CDIDevice(name=name) for name in existing]
        ),
    )


class Connection:
    """A connection of a plugin."""

    def __init__(self, trunk: socket.socket) -> None:
        self.trunk = trunk
        self._reader = Reader()
        self._messages: list[Message] = []
        self._stream = 1

    def next_message(self) -> Message:
        """Return the next message of the plugin; EOFError if it has closed the connection."""
        while not self._messages:
            data = self.trunk.recv(1 << 16)
            if not data:
                raise EOFError
            self._messages += self._reader.feed(data)
        return self._messages.pop(0)

    def registration(self) -> nri.RegisterPluginRequest:
        """Return the plugin's registration, which has to be its first message."""
        message = self.next_message()
        assert (message.connection, message.kind) == (RUNTIME, REQUEST)
        request = ttrpc.Request.FromString(message.payload)
        assert (request.service, request.method) == (
            "nri.pkg.api.v1alpha1.Runtime",
            "RegisterPlugin",
        )
        return nri.RegisterPluginRequest.FromString(request.payload)

    def accept(self, status: ttrpc.Status | None = None) -> None:
        """Answer the registration."""
        answer = ttrpc.Response(status=status).SerializeToString()
        self.trunk.sendall(spread(Message(RUNTIME, 1, RESPONSE, answer)))

    def call(self, method: str, request: Any, service: str = SERVICE) -> ttrpc.Response:
        """Call a method of the plugin."""
        self._stream += 2
        content = ttrpc.Request(
            service=service, method=method, payload=request.SerializeToString()
        ).SerializeToString()
        self.trunk.sendall(spread(Message(PLUGIN, self._stream, REQUEST, content)))
        message = self.next_message()
        assert message[:3] == (PLUGIN, self._stream, RESPONSE)
        return ttrpc.Response.FromString(message.payload)

    def configure(self, version: str = "v2.2.9") -> nri.ConfigureResponse:
        """Do what an engine does with a new plugin; return the plugin's configuration."""
        assert self.registration().plugin_name == "cdi-gen"
        self.accept()
        request = nri.ConfigureRequest(runtime_name="containerd", runtime_version=version)
        configuration = self.call("Configure", request)
        pods = nri.SynchronizeRequest(pods=[nri.PodSandbox(name="old")], more=True)
        assert nri.SynchronizeResponse.FromString(self.call("Synchronize", pods).payload).more
        last = self.call("Synchronize", nri.SynchronizeRequest())
        assert not nri.SynchronizeResponse.FromString(last.payload).more
        return nri.ConfigureResponse.FromString(configuration.payload)

    def create(self, request: nri.CreateContainerRequest) -> list[str] | ttrpc.Status:
        """Return the devices of a container, or the plugin's refusal."""
        response = self.call("CreateContainer", request)
        if response.status.code:
            return response.status
        adjustment = nri.CreateContainerResponse.FromString(response.payload).adjust
        return [device.name for device in adjustment.CDI_devices]


class Engine:
    """An engine with a socket for plugins."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(SECONDS)
        self._listener.bind(str(path))
        self._listener.listen()
        self._path = path

    @contextlib.contextmanager
    def plugin(self) -> Iterator[Connection]:
        """Wait for a plugin to connect."""
        trunk, _ = self._listener.accept()
        with trunk:
            trunk.settimeout(SECONDS)
            yield Connection(trunk)

    def stop(self) -> None:
        """End the engine and remove its socket."""
        self._listener.close()
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def engine(path: Path) -> Iterator[Engine]:
    """Run an engine."""
    running = Engine(path)
    try:
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def in_thread(plugin: Any) -> Iterator[threading.Thread]:
    """Run a plugin in a thread, and end it."""
    thread = threading.Thread(target=plugin.run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        plugin.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()
