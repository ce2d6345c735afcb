# SPDX-License-Identifier: Apache-2.0
"""One connection to an engine: what the plugin sends and answers. It does no I/O.

The plugin registers; the engine then calls Configure, Synchronize and, for each container that it
creates, CreateContainer.
"""

from __future__ import annotations

from typing import Any

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.nri.frames import PLUGIN, REQUEST, RESPONSE, RUNTIME, Message, Reader
from cdi_gen.kubernetes.nri.frames import written as frames_of
from cdi_gen.kubernetes.nri.requests import Permissions, requested_devices
from cdi_gen.kubernetes.protocols import nri_v1alpha1_pb2 as nri
from cdi_gen.kubernetes.protocols import ttrpc_pb2 as ttrpc
from cdi_gen.kubernetes.protocols.decoding import MessageError, decode
from cdi_gen.kubernetes.reports import Report

NAME = "cdi-gen"
PACKAGE = "nri.pkg.api.v1alpha1"
EVENTS = 1 << (nri.CREATE_CONTAINER - 1)
"""The events that the plugin subscribes to, as NRI's mask."""

INVALID_ARGUMENT = 3
PERMISSION_DENIED = 7
UNIMPLEMENTED = 12
"""Status codes of gRPC, which ttrpc uses."""

REGISTRATION_SECONDS = 5.0
"""The time that the engine has to answer; NRI's default for the other direction."""

_REGISTRATION = 1
"""The stream of the plugin's only call; the streams of a client have odd numbers."""


class RegistrationError(CdiGenError):
    """The engine does not accept the plugin."""

    code = "CDG-N605"


class OldEngineError(CdiGenError):
    """The engine would create the container without its devices, and say nothing."""

    code = "CDG-N608"


class Session:
    """The plugin's side of a connection.

    Args:
        index: two digits; the engine calls its plugins in this order.
        permissions: who may request what.
        report: prints a finding.
    """

    def __init__(self, index: str, permissions: Permissions, report: Report) -> None:
        self._index = index
        self._permissions = permissions
        self._report = report
        self._reader = Reader()
        self.engine: str | None = None
        """Name and version of the engine, when it has configured the plugin."""

    def greeting(self) -> bytes:
        """Return the bytes that register the plugin."""
        registration = nri.RegisterPluginRequest(plugin_name=NAME, plugin_idx=self._index)
        request = ttrpc.Request(
            service=f"{PACKAGE}.Runtime",
            method="RegisterPlugin",
            payload=registration.SerializeToString(),
            timeout_nano=int(REGISTRATION_SECONDS * 1e9),
        )
        return frames_of(Message(RUNTIME, _REGISTRATION, REQUEST, request.SerializeToString()))

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the engine, and return the bytes to answer.

        Raises:
            CdiGenError: the engine breaks the protocol, or does not accept the plugin.
        """
        answers = bytearray()
        for message in self._reader.feed(data):
            if message.connection == PLUGIN and message.kind == REQUEST:
                answer = self._answer(message.payload).SerializeToString()
                answers += frames_of(message._replace(kind=RESPONSE, payload=answer))
            elif message[:3] == (RUNTIME, _REGISTRATION, RESPONSE):
                _check_registration(decode(ttrpc.Response, message.payload))
        return bytes(answers)

    def _answer(self, payload: bytes) -> ttrpc.Response:
        """Return the answer to a request; a request that is not valid does not end the session."""
        try:
            request = decode(ttrpc.Request, payload)
            method = self._METHODS.get(request.method)
            if request.service != f"{PACKAGE}.Plugin" or method is None:
                return _refusal(UNIMPLEMENTED, f"no method {request.service}/{request.method}")
            response = method(self, request.payload)
        except MessageError as error:
            return _refusal(INVALID_ARGUMENT, error.message)
        except CdiGenError as error:
            self._report(error.finding)
            hint = f"; {error.hint}" if error.hint else ""
            return _refusal(PERMISSION_DENIED, f"{error.message}{hint}")
        return ttrpc.Response(payload=response.SerializeToString())

    def _configure(self, payload: bytes) -> nri.ConfigureResponse:
        request = decode(nri.ConfigureRequest, payload)
        self.engine = f"{request.runtime_name} {request.runtime_version}".strip()
        return nri.ConfigureResponse(events=EVENTS)

    def _synchronize(self, payload: bytes) -> nri.SynchronizeResponse:
        """Accept the containers that exist: their devices cannot be changed."""
        more = decode(nri.SynchronizeRequest, payload).more
        return nri.SynchronizeResponse(more=more)

    def _create_container(self, payload: bytes) -> nri.CreateContainerResponse:
        request = decode(nri.CreateContainerRequest, payload)
        pod, container = request.pod, request.container
        devices = requested_devices(pod.annotations, container.name)
        for device in devices:
            self._permissions.check(pod.namespace, device)
        # A device that the kubelet requests as well is not added a second time.
        existing = {device.name for device in container.CDI_devices}
        added = [device for device in devices if device not in existing]
        if not added:
            return nri.CreateContainerResponse()
        if _ignores_devices(self.engine or ""):
            raise OldEngineError(
                f"{self.engine} ignores the CDI devices of NRI plugins",
                hint="use containerd 2; or let the device plugin request the devices, with "
                "`enable_cdi = true` in the configuration of containerd",
            )
        subject = f"{pod.namespace}/{pod.name}"
        message = f"pod {subject}: container {container.name} gets {', '.join(added)}"
        self._report(Finding("CDG-N606", "info", message, subject=subject))
        adjustment = nri.ContainerAdjustment(
            CDI_devices=[nri.CDIDevice(name=name) for name in added]
        )
        return nri.CreateContainerResponse(adjust=adjustment)

    def _ignore(self, _payload: bytes) -> nri.Empty:
        return nri.Empty()

    _METHODS: dict[str, Any] = {  # noqa: RUF012 - never changed
        "Configure": _configure,
        "Synchronize": _synchronize,
        "CreateContainer": _create_container,
        "StateChange": _ignore,
        "Shutdown": _ignore,
    }


def _ignores_devices(engine: str) -> bool:
    """Whether an engine is containerd 1, whose NRI has no CDI devices."""
    name, _, version = engine.partition(" ")
    return name == "containerd" and version.lstrip("v").startswith("1.")


def _check_registration(response: ttrpc.Response) -> None:
    if response.status.code:
        raise RegistrationError(
            f"the engine does not accept the plugin: {response.status.message[:512]}",
            hint="look at the log of the engine, and at its configuration of NRI",
        )


def _refusal(code: int, message: str) -> ttrpc.Response:
    return ttrpc.Response(status=ttrpc.Status(code=code, message=message[:512]))
