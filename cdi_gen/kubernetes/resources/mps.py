# SPDX-License-Identifier: Apache-2.0
"""Which MPS control daemons a node needs, and what their clients get.

A daemon serves one GPU, so that a fault or a restart costs that GPU only, and each GPU has the
thread share of its own replicas. If a container may request several shared devices
(``failRequestsGreaterThanOne: false``), one daemon serves all shared GPUs of the resource, because
a process is a client of one daemon.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cdi_gen.kubernetes.resources.device import Device, Resource

CONTAINER_ROOT = "/mps"
"""Where containers have their pipe directory, as with NVIDIA's plugin."""

CLIENTS = "clients"
"""The directory of a daemon that is mounted into containers. It has the socket ``control`` only:
with ``control_privileged``, root of any container could end the daemon (docs/gpu/kubernetes.md)."""

PIPE_DIRECTORY = "CUDA_MPS_PIPE_DIRECTORY"
THREAD_PERCENTAGE = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
MEMORY_LIMIT = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsDaemon:
    """A control daemon, and the GPUs that it serves."""

    name: str
    """The name of its directory: the UUID of its GPU, or ``gpus-`` and a hash of the UUIDs."""
    resource: str
    devices: tuple[Device, ...]
    """One of the replicas of each GPU."""

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs of the GPUs. A GPU's place is its number for the daemon's limits."""
        return tuple(device.uuid for device in self.devices)

    @property
    def thread_percentage(self) -> int:
        """The share of the multiprocessors that a client may use."""
        return thread_percentage(self.devices)


def daemons(resources: Iterable[Resource]) -> tuple[MpsDaemon, ...]:
    """Return the daemons that a node with these resources needs."""
    return tuple(
        daemon for resource in resources if resource.sharing == "mps" for daemon in _of(resource)
    )


def daemon_name(devices: Sequence[Device], resource: Resource) -> str:
    """Return the name of the daemon that serves these shared devices of a container."""
    if resource.fail_requests_greater_than_one:
        return devices[0].uuid
    return _group_name(_shared(resource))


def environment(devices: Sequence[Device], resource: Resource) -> dict[str, str]:
    """Return the variables of a container with these shared devices.

    CUDA reads the limits as well, and takes the lower one of the container's and the daemon's.
    """
    limits = [f"{number}={limit}M" for number, limit in memory_limits(devices)]
    return {
        PIPE_DIRECTORY: pipe_directory(resource),
        THREAD_PERCENTAGE: str(thread_percentage(devices)),
        **({MEMORY_LIMIT: ",".join(limits)} if limits else {}),
    }


def pipe_directory(resource: Resource) -> str:
    """Return the pipe directory in a container."""
    return f"{CONTAINER_ROOT}/{resource.name}/pipe"


def thread_percentage(devices: Iterable[Device]) -> int:
    """Return the share of a client; a daemon has one for all of its GPUs, so the smallest."""
    return max(1, 100 // max(device.replicas for device in devices))


def memory_limits(devices: Iterable[Device]) -> list[tuple[int, int]]:
    """Return the number of each GPU and the MiB of its memory that a client may use."""
    return [
        (number, device.memory_mib // device.replicas)
        for number, device in enumerate(devices)
        if device.memory_mib is not None
    ]


def max_clients(compute_capability: str | None, cuda_version: str | None) -> int:
    """Return how many clients a GPU can have.

    NVIDIA's documentation of MPS: 16 before Volta; 48, and 60 from CUDA 13.1. NVIDIA's device
    plugin allows 48, and 16 on Volta itself.
    """
    if compute_capability and _numbers(compute_capability) < (7, 0):
        return 16
    return 60 if cuda_version and _numbers(cuda_version) >= (13, 1) else 48


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _of(resource: Resource) -> Iterable[MpsDaemon]:
    shared = _shared(resource)
    if not resource.fail_requests_greater_than_one:
        name = _group_name(shared)
        yield MpsDaemon(name=name, resource=resource.name, devices=tuple(shared))
        return
    for device in shared:
        yield MpsDaemon(name=device.uuid, resource=resource.name, devices=(device,))


def _shared(resource: Resource) -> list[Device]:
    """Return one replica of each shared GPU."""
    return [device for device in resource.devices if device.replica == 0]


def _group_name(devices: Iterable[Device]) -> str:
    text = ",".join(device.uuid for device in devices)
    return f"gpus-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
