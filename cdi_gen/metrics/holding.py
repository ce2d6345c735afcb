# SPDX-License-Identifier: Apache-2.0
"""Decides which containers have GPUs: by their nodes, their processes and the kubelet; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cdi_gen.containers import allocations, holders
from cdi_gen.containers.allocations import Allocations
from cdi_gen.containers.model import (
    REFUSED,
    Allocation,
    Container,
    HeldDevice,
    Holder,
    Origin,
    Pod,
    Process,
)
from cdi_gen.inventory import Inventory
from cdi_gen.metrics.attribution import Users


def holding_containers(
    containers: Sequence[Container],
    inventory: Inventory | None,
    users: Users,
    allocated: Allocations,
) -> tuple[Holder, ...]:
    """Return the containers that have GPUs, as far as can be seen.

    Args:
        containers: those whose processes are seen.
        inventory: the GPUs; None if they are not known.
        users: the processes that use GPUs.
        allocated: what the kubelet has given.
    """
    return (
        *_visible(containers, inventory, users, allocated),
        *_allocated_only(containers, inventory, allocated),
    )


def _visible(
    containers: Sequence[Container],
    inventory: Inventory | None,
    users: Users,
    allocated: Allocations,
) -> Iterator[Holder]:
    by_first = {container.first.pid: container for container in containers}
    for container in containers:
        devices = holders.held_devices(container.nodes, inventory) if inventory else ()
        allocated_to = allocations.of_container(container, allocated)
        if devices or allocated_to or users.are_in(container):
            is_all = inventory is not None and holders.has_all(container, devices, inventory)
            yield Holder(
                container=_of_outer(container, by_first),
                devices=_without_refused(devices, container, users, allocated_to),
                has_all=is_all,
                allocations=allocated_to,
            )


def _without_refused(
    devices: Sequence[HeldDevice],
    container: Container,
    users: Users,
    allocated_to: Sequence[Allocation],
) -> tuple[HeldDevice, ...]:
    """Return the devices without those that nvidia-smi has only made nodes of in the container.

    Its control group refuses them. A device that it refuses counts if a process still uses it, as
    after ``systemctl daemon-reload``, or if the kubelet has allocated it. All remain if the
    container has no other device: it has lost its own.
    """
    uuids = {name.partition("::")[0] for item in allocated_to for name in item.ids}
    return tuple(
        held
        for held in devices
        if held.access != REFUSED or held.uuid in uuids or users.are_on(held, container)
    ) or tuple(devices)


def _of_outer(container: Container, by_first: Mapping[int, Container]) -> Container:
    """Return a container with the pod, unit and user of the container that it runs in.

    What its engine wrote of a pod counts only if the outer one is in none: it may be hostile.
    """
    origin = container.origin
    outer = container
    for _ in by_first:
        inner, outer = outer, by_first.get(outer.within or 0, outer)
        if outer is inner:
            break
        origin = replace(
            origin,
            pod=outer.origin.pod or origin.pod,
            unit=origin.unit or outer.origin.unit,
            user=origin.user or outer.origin.user,
        )
    return container if origin is container.origin else replace(container, origin=origin)


def _allocated_only(
    containers: Sequence[Container], inventory: Inventory | None, allocated: Allocations
) -> Iterator[Holder]:
    """Yield the containers that the kubelet gave GPUs to, and whose processes are not seen.

    They run in another PID namespace than this program, or are between two starts. Some kubelets
    also list pods that have ended, until they are deleted. A device that one of these has had, and
    a container that is seen has now, is not theirs.
    """
    visible = {
        (pod.namespace, pod.name, pod.container)
        for container in containers
        if container.within is None and (pod := container.origin.pod) is not None
    }
    taken = {name for key in visible for item in allocated.get(key, ()) for name in item.ids}
    for number, (key, values) in enumerate(allocated.items(), start=1):
        if inventory is None or key in visible:
            continue
        names = (name for item in values for name in item.ids if name not in taken)
        devices = holders.named_devices(names, inventory)
        if devices:
            namespace, name, title = key
            pod = Pod(namespace=namespace, name=name, container=title)
            container = Container(
                origin=Origin(pod=pod),
                first=replace(_NO_PROCESS, pid=-number),
                processes=(),
                unseen=("its processes",),
            )
            yield Holder(container=container, devices=devices, allocations=values)


_NO_PROCESS = Process(pid=-1, start_time=0, parent=0, name="", user=0, mount_namespace=None)
"""The first process of a container that only the kubelet knows; no process has such a number."""
