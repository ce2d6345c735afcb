# SPDX-License-Identifier: Apache-2.0
"""Reads the variables of a request's image in the engine's store, for the shim and the hook.

Images of CUDA set NVIDIA_VISIBLE_DEVICES and NVIDIA_DRIVER_CAPABILITIES themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cdi_gen.errors import CdiGenError
from cdi_gen.why.command.request import ContainerRequest
from cdi_gen.why.mechanism.answer import Answer
from cdi_gen.why.mechanism.engine_facts import EngineFacts

if TYPE_CHECKING:
    from cdi_gen.images.places import Host

_TRANSPORTS = {
    "docker": ("docker-daemon", "containerd"),
    "podman": ("containers-storage",),
    "buildah": ("containers-storage",),
    "containerd": ("containerd",),
    "nerdctl": ("containerd",),
}
"""The stores of each engine; a Docker that was installed as 29 or later has that of containerd."""
_READ_BY = ("shim", "prestart-hook")


def matters(answer: Answer) -> bool:
    """Whether the answer depends on the variables of the image."""
    is_unset = any(finding.code == "CDG-Y109" for finding in answer.findings)
    return bool(answer.request.image) and (answer.mechanism in _READ_BY or is_unset)


def read(
    request: ContainerRequest, engine: EngineFacts, environment: Mapping[str, str], uid: int
) -> Mapping[str, str] | None:
    """The variables of the image; None if the store of the engine does not have it, or is closed.

    Args:
        request: whose image it is.
        engine: whose store is read.
        environment: of the user who asks.
        uid: of the user who asks.
    """
    from cdi_gen.images.places import Host  # noqa: PLC0415 - for the shim and the hook only

    host = Host(environment, uid, engine.host_root if engine.host_root != "/" else "")
    for transport in _TRANSPORTS.get(engine.status.engine, ()):
        variables = _read(f"{transport}:{request.image}", host)
        if variables is not None:
            return variables
    return None


def _read(name: str, host: Host) -> Mapping[str, str] | None:
    from cdi_gen.images import opening  # noqa: PLC0415

    try:
        with opening.open_image(name, host=host) as image:
            return dict(image.environment)
    except CdiGenError:
        return None
