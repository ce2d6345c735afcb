# SPDX-License-Identifier: Apache-2.0
"""The gRPC server of one resource: the service ``v1beta1.DevicePlugin`` on a socket of its own.

The kubelet keeps one call of ListAndWatch open for each registration; every other call is short. An
open call occupies a thread, which ends when the kubelet closes the call.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.kubernetes.plugin import messages
from cdi_gen.kubernetes.plugin.observer import Observer
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api
from cdi_gen.kubernetes.resources.allocation import AllocationError, Node, allocate
from cdi_gen.kubernetes.resources.device import Resource
from cdi_gen.kubernetes.resources.links import Scores
from cdi_gen.kubernetes.resources.preference import preferred
from cdi_gen.kubernetes.settings import Settings

Request = TypeVar("Request")
Response = TypeVar("Response")

SERVICE = "v1beta1.DevicePlugin"

THREADS = 16
"""Calls at a time. More wait; a kubelet that restarts leaves its old call open for a moment."""

MAX_REQUEST_BYTES = 2 * messages.MAX_LIST_BYTES
"""GetPreferredAllocation names each device at most twice."""

CONNECT_SECONDS = 1.0

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the answers of a server depend on."""

    resource: Resource
    settings: Settings
    node: Node = Node()
    scores: Scores = field(default_factory=Scores)
    unhealthy: frozenset[str] = frozenset()
    """The UUIDs of devices that are not to be used."""


class ResourceServer:
    """Serves one resource. `update` may be called at any time.

    Args:
        state: what the answers depend on.
        directory: where the socket is made.
        observer: is told of answers.
        unwatched: is called, from a thread, when the last call of ListAndWatch has ended.
    """

    def __init__(
        self,
        state: State,
        directory: str,
        observer: Observer,
        unwatched: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = state
        self._observer = observer
        self._unwatched = unwatched
        self._watches = 0
        self._changed = threading.Condition()
        self._stopped = False
        self.path = f"{directory}/{state.resource.socket_name}"
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix=state.resource.name)
        self._server: grpc.Server | None = None
        self._socket: tuple[int, int] | None = None

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    def start(self) -> None:
        """Listen on the socket; an old socket at its path is replaced, in one step.

        A plugin that is replaced looks for its socket. If there were none for a moment, it would
        take its path back, and the two plugins would replace each other.

        Raises:
            UnsafeError: there is something else than a socket at the path.
            CdiGenError: the socket cannot be made.
        """
        directory = os.path.dirname(self.path)
        new = f"{directory}/.cdi-gen-{os.urandom(8).hex()}"
        server: grpc.Server | None = None
        try:
            # gRPC writes a line of its own about a directory that does not exist, at each attempt.
            os.stat(directory)
            _require_socket(self.path)
            server = grpc.server(self._executor, options=OPTIONS)
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(SERVICE, self._handlers()),)
            )
            server.add_insecure_port(f"unix:{new}")
            server.start()
            with suppress(FileNotFoundError):  # a kubelet that starts has deleted it
                os.rename(new, self.path)
        except (OSError, RuntimeError) as error:
            if server is not None:
                server.stop(grace=None)
            with suppress(OSError):
                os.unlink(new)
            raise CdiGenError(
                f"cannot listen on {self.path}: {getattr(error, 'strerror', None) or error}",
                hint="run as root, with the kubelet's directory mounted",
                code="CDG-N005",
                subject=self.path,
            ) from error
        self._server = server
        self._socket = _identity(self.path)

    def is_listening(self) -> bool:
        """Whether the socket is still the server's; the kubelet deletes it when it starts."""
        return self._socket is not None and _identity(self.path) == self._socket

    def is_watched(self) -> bool:
        """Whether a client listens to the list of devices, as a kubelet does once registered."""
        return self._watches > 0

    def is_superseded(self) -> bool:
        """Whether another process listens at the path of the socket: a newer plugin.

        Both would else take the socket from each other without an end.
        """
        return not self.is_listening() and _is_served(self.path)

    def update(self, state: State) -> None:
        """Answer from now on from this state, and send the new list of devices if it differs."""
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def stop(self) -> None:
        """End all calls and remove the socket."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._server is not None:
            self._server.stop(grace=None).wait(timeout=5)
        # gRPC leaves the threads of the executor waiting.
        self._executor.shutdown(wait=False)
        if self.is_listening():
            with suppress(OSError, UnsafeError):  # a read-only file system, for example
                _remove_socket(self.path)

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        return {
            "GetDevicePluginOptions": _unary(self._options, api.Empty, api.DevicePluginOptions),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self._list_and_watch,
                api.Empty.FromString,
                response_serializer=api.ListAndWatchResponse.SerializeToString,
            ),
            "GetPreferredAllocation": _unary(
                self._timed("GetPreferredAllocation", self._preferred),
                api.PreferredAllocationRequest,
                api.PreferredAllocationResponse,
            ),
            "Allocate": _unary(
                self._timed("Allocate", self._allocate), api.AllocateRequest, api.AllocateResponse
            ),
            "PreStartContainer": _unary(
                self._pre_start, api.PreStartContainerRequest, api.PreStartContainerResponse
            ),
        }

    def _options(
        self, _request: api.Empty, _context: grpc.ServicerContext
    ) -> api.DevicePluginOptions:
        return options()

    def _pre_start(
        self, _request: api.PreStartContainerRequest, _context: grpc.ServicerContext
    ) -> api.PreStartContainerResponse:
        return api.PreStartContainerResponse()

    def _list_and_watch(
        self, _request: api.Empty, context: grpc.ServicerContext
    ) -> Iterator[api.ListAndWatchResponse]:
        with self._changed:
            self._watches += 1
        # It is not called if the call has ended already.
        if not context.add_callback(self._ended):
            self._ended()
        sent: api.ListAndWatchResponse | None = None
        while context.is_active():
            with self._changed:
                if self._stopped:
                    return
                state = self._state
                devices = messages.device_list(state.resource.devices, state.unhealthy)
                if devices == sent:
                    if context.is_active():
                        self._changed.wait()
                    continue
            sent = devices
            yield devices

    def _ended(self) -> None:
        """Note that a call of ListAndWatch has ended, and wake its thread."""
        with self._changed:
            self._watches -= 1
            is_unwatched = self._watches == 0 and not self._stopped
            self._changed.notify_all()
        if is_unwatched:
            self._unwatched()

    def _preferred(
        self, request: api.PreferredAllocationRequest, _context: grpc.ServicerContext
    ) -> api.PreferredAllocationResponse:
        state = self._state
        return api.PreferredAllocationResponse(
            container_responses=[
                api.ContainerPreferredAllocationResponse(
                    deviceIDs=preferred(
                        container.available_deviceIDs,
                        container.must_include_deviceIDs,
                        container.allocation_size,
                        state.resource,
                        state.scores,
                        state.settings.allocation_policy,
                    )
                )
                for container in request.container_requests
            ]
        )

    def _allocate(
        self, request: api.AllocateRequest, context: grpc.ServicerContext
    ) -> api.AllocateResponse:
        state = self._state
        try:
            allocations = [
                allocate(container.devices_ids, state.resource, state.settings, state.node)
                for container in request.container_requests
            ]
        except AllocationError as error:
            hint = f"; {error.hint}" if error.hint else ""
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{error.message}{hint} [{error.code}]")
        return api.AllocateResponse(
            container_responses=list(map(messages.allocate_response, allocations))
        )

    def _timed(
        self, method: str, answer: Callable[[Request, grpc.ServicerContext], Response]
    ) -> Callable[[Request, grpc.ServicerContext], Response]:
        def timed(request: Request, context: grpc.ServicerContext) -> Response:
            start = time.perf_counter()
            failed = True
            try:
                response = answer(request, context)
                failed = False
                return response
            finally:
                seconds = time.perf_counter() - start
                self._observer.answered(self._state.resource.name, method, seconds, failed=failed)

        return timed


def options() -> api.DevicePluginOptions:
    """Return the options of every resource."""
    return api.DevicePluginOptions(get_preferred_allocation_available=True)


def _unary(
    answer: Callable[..., object], request: type, response: type
) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,  # type: ignore[attr-defined]
        response_serializer=response.SerializeToString,  # type: ignore[attr-defined]
    )


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another; None if there is none at the path.

    A kubelet that starts may delete the socket at any time, also before this look at a new one.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CONNECT_SECONDS)
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                client.connect(path)
                return True
        except TimeoutError:
            return True
        except OSError:
            pass
    return False


def _require_socket(path: str) -> None:
    """Reject what is no socket at the path: it belongs to another program, and is left."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise UnsafeError(
            f"{path} is not a socket; it is left as it is",
            hint="remove it; only the kubelet and device plugins use this directory",
            code="CDG-N006",
            subject=path,
        )


def _remove_socket(path: str) -> None:
    """Remove an old socket. Anything else belongs to another program, and is left."""
    _require_socket(path)
    with suppress(FileNotFoundError):  # a kubelet that starts deletes it at the same time
        os.unlink(path)
