# SPDX-License-Identifier: Apache-2.0
"""Which of the host's engines a request is for: by the program, the endpoint and the user."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cdi_base.findings import Finding
from cdi_gen.engines.status import EngineStatus
from cdi_gen.why.command.request import ContainerRequest

_USERS_SOCKET = re.compile(r"unix://(/run/user/\d+/|/home/).*")
_OF_PODMAN = "podman"
_KUBERNETES = ("containerd", "crio")
_ROOTLESS_CONTEXT = "context rootless"
_DESKTOP_CONTEXT = "context desktop-linux"
_DESKTOP_SOCKET = "/.docker/desktop/"


def names_of(request: ContainerRequest) -> tuple[str, ...]:
    """The names of the engines that may be asked: Podman has an API for Docker's programs."""
    if request.engine == "kubernetes":
        return _KUBERNETES
    is_docker = request.engine == "docker"
    return ("podman",) if is_docker and _OF_PODMAN in request.endpoint else (request.engine,)


def choose(
    request: ContainerRequest,
    statuses: Sequence[EngineStatus],
    *,
    is_root: bool,
    is_named: bool = False,
) -> tuple[EngineStatus | None, tuple[Finding, ...]]:
    """The engine that a request is for; None if it is not on this host, and why.

    Args:
        request: the container.
        statuses: the engines of the host, or those that the user names.
        is_root: whether root asks.
        is_named: whether the user names the engines, wherever they are.
    """
    names = names_of(request)
    name = request.engine if request.engine == "kubernetes" else names[0]
    if _is_desktop(request.endpoint) and not is_named:
        return None, (_in_virtual_machine(request),)
    if _is_elsewhere(request.endpoint) and not is_named:
        message = (
            f"{request.program} asks a daemon that is not on this host ({request.endpoint}): its "
            "version and configuration are not known here"
        )
        fix = f"on that host: cdi-gen why {request.source}; or name it: --engine {name}@VERSION"
        return None, (Finding("CDG-Y117", "warning", message, subject=name, fix=fix),)
    found = [status for status in statuses if status.engine in names]
    as_root = is_root if request.as_root is None else request.as_root
    wants_rootless = not as_root and name in ("podman", "buildah", "nerdctl")
    if name == "docker" or (name == "podman" and request.endpoint):
        wants_rootless = _is_users(request.endpoint)
    matching = [status for status in found if status.rootless == wants_rootless]
    if matching or found:
        return (matching or found)[0], ()
    what = "containerd or CRI-O" if name == "kubernetes" else name
    message = f"{what} is not installed on this host"
    example = "containerd" if name == "kubernetes" else name
    fix = f"name a version: cdi-gen why --engine {example}@VERSION …"
    if name == "docker":
        fix += "; for Docker of snap: sudo cdi-gen doctor confined-engines"
    return None, (Finding("CDG-Y120", "warning", message, subject=what, fix=fix),)


def _is_desktop(endpoint: str) -> bool:
    return endpoint == _DESKTOP_CONTEXT or _DESKTOP_SOCKET in endpoint


def _in_virtual_machine(request: ContainerRequest) -> Finding:
    """The finding that Docker Desktop starts the container, which has no GPU on Linux."""
    message = (
        f"{request.program} asks Docker Desktop ({request.endpoint}), which starts containers in "
        "a virtual machine without this host's GPUs"
    )
    fix = "docker context use default && unset DOCKER_HOST, with Docker Engine on this host"
    return Finding("CDG-Y117", "error", message, subject="docker", fix=fix)


def _is_users(endpoint: str) -> bool:
    return endpoint == _ROOTLESS_CONTEXT or _USERS_SOCKET.fullmatch(endpoint) is not None


def _is_elsewhere(endpoint: str) -> bool:
    if endpoint.startswith("context "):
        return endpoint != _ROOTLESS_CONTEXT
    return bool(endpoint) and not endpoint.startswith(("unix://", "fd://"))
