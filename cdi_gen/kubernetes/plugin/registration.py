# SPDX-License-Identifier: Apache-2.0
"""Registers a resource with the kubelet, and notices that the kubelet has started again."""

from __future__ import annotations

import os

import grpc

from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.plugin import messages
from cdi_gen.kubernetes.plugin.server import ResourceServer, options
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api

METHOD = "/v1beta1.Registration/Register"

SECONDS = 10
"""The time that the kubelet may take to answer; it calls the plugin back before it answers."""


CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
"""Otherwise channels of one process share connections, and a channel to a kubelet that is back
waits for the end of the pause that the failure of an earlier one began, up to two minutes."""


class RegistrationError(CdiGenError):
    """The kubelet does not accept a registration, or does not answer."""

    code = "CDG-N104"


def register(server: ResourceServer, kubelet_socket: str) -> None:
    """Register the resource of a server that listens.

    Raises:
        RegistrationError: the kubelet refuses, or does not answer in time.
    """
    resource = server.state.resource.name
    request = api.RegisterRequest(
        version=messages.VERSION,
        endpoint=os.path.basename(server.path),
        resource_name=resource,
        options=options(),
    )
    with grpc.insecure_channel(f"unix:{kubelet_socket}", options=CHANNEL_OPTIONS) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=api.RegisterRequest.SerializeToString,
            response_deserializer=api.Empty.FromString,
        )
        try:
            call(request, timeout=SECONDS)
        except grpc.RpcError as error:
            # An error of a call has the other side's words; the type of the stubs does not say so.
            details = getattr(error, "details", None)
            reason = details() if details else error
            raise RegistrationError(
                f"the kubelet does not register {resource}: {reason}", subject=kubelet_socket
            ) from error


def identity(kubelet_socket: str) -> tuple[int, int, int] | None:
    """Return what changes when the kubelet starts again; None if there is no kubelet.

    The inode alone is not enough: a file system may give a new file the number of the old one.
    """
    try:
        status = os.stat(kubelet_socket)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_ctime_ns)
