# SPDX-License-Identifier: Apache-2.0
"""The types of what is known about running containers.

All text of a container (its name, its image, the names of its processes) is chosen by a user and
may be hostile: print it through ``cdi_base.errors.printable``.
"""

from __future__ import annotations

from dataclasses import dataclass

ALLOWED, REFUSED, UNRESTRICTED, UNKNOWN = "allowed", "refused", "unrestricted", "unknown"
"""Whether the control groups let a container open a device. ``unrestricted``: no rule at all, as in
rootless containers. ``unknown``: this process may not read the rules, or cannot interpret them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process, identified by its number and its start time."""

    pid: int
    start_time: int
    """In clock ticks since the boot."""
    parent: int
    name: str
    """The kernel's name of the process (comm), which the process can change."""
    user: int
    mount_namespace: int | None
    """None if this process may not know."""
    groups: tuple[tuple[str, str], ...] = ()
    """The path of its control group, by controller; the name of version 2 is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerNode:
    """A device node in a container."""

    path: str
    kind: str
    """b or c"""
    major: int
    minor: int
    access: str
    """``allowed``, ``refused``, ``unrestricted`` or ``unknown``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """The pod of Kubernetes that a container is in."""

    namespace: str
    name: str
    container: str
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a container comes from: what its engine wrote about it."""

    engine: str = ""
    """``docker``, ``podman``, ``containerd``, ``cri-o``, ``runc``, …; empty: unknown."""
    id: str = ""
    name: str = ""
    image: str = ""
    pod: Pod | None = None
    bundle: str = ""
    """The directory of its config.json."""
    state: str = ""
    """The directory of the OCI runtime's state."""
    unit: str = ""
    """The unit of systemd that it runs in, ``web.service``; empty if its engine made the unit."""
    user: str = ""
    """The user whose rootless engine runs it, or the user's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A running container."""

    origin: Origin
    first: Process
    """The oldest of its processes that are running."""
    processes: tuple[Process, ...]
    nodes: tuple[ContainerNode, ...] = ()
    """The device nodes in its /dev, except the usual ones (null, tty …)."""
    is_privileged: bool = False
    """No rule restricts its devices, and it is in no user namespace, as after ``--privileged``."""
    within: int | None = None
    """The first process of the container that this one runs in (a nested engine)."""
    unseen: tuple[str, ...] = ()
    """What could not be seen of it, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDevice:
    """A GPU or a MIG device that a container can use."""

    index: str
    """``0``, or ``0:1`` for a MIG device, as in CDI names."""
    uuid: str
    model: str
    profile: str = ""
    """Of a MIG device."""
    access: str = ALLOWED
    """``allowed``, ``unrestricted``, ``unknown``; or ``refused``: its node is there, but its
    control group refuses it, as after ``systemctl daemon-reload``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A process that uses a GPU or a MIG device."""

    pid: int
    name: str
    device: str
    """The index, as in `HeldDevice`."""
    memory: int | None = None
    """Bytes of GPU memory; None if NVML does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Devices that the kubelet has allocated to a container."""

    resource: str
    """``nvidia.com/gpu``"""
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A container that has GPUs, and what its processes use."""

    container: Container
    devices: tuple[HeldDevice, ...]
    has_all: bool = False
    """It can use all GPUs of the host because it is privileged."""
    uses: tuple[Use, ...] = ()
    allocations: tuple[Allocation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Who has which GPU."""

    holders: tuple[Holder, ...]
    host_uses: tuple[Use, ...]
    """Of processes that are in no container."""
    containers: int
    """The number of running containers, with or without GPUs."""
    source: str
    """Where uses come from: ``nvml``, or ``open files``, which do not tell memory."""
    no_memory: str = ""
    """Why NVML does not tell the memory of processes."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, and why."""
