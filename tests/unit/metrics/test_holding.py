# SPDX-License-Identifier: Apache-2.0
"""Which containers have GPUs, and whose labels they get."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cdi_gen.containers.allocations import Allocations
from cdi_gen.containers.model import (
    ALLOWED,
    REFUSED,
    UNKNOWN,
    Allocation,
    Container,
    ContainerNode,
    Holder,
    Pod,
)
from cdi_gen.inventory.json_form import load
from cdi_gen.metrics.attribution import Users, attribute
from cdi_gen.metrics.holding import holding_containers
from cdi_gen.telemetry.model import ProcessReading, Reading
from tests.cli.program import GOLDEN
from tests.unit.metrics import snapshots
from tests.unit.metrics.snapshots import gpu, reading

EIGHT = load((GOLDEN / "hgx-550-8gpu/inventory.json").read_text())
MIG = load((GOLDEN / "flat-550-mig-mixed/inventory.json").read_text())
UUIDS = [gpu.uuid or "" for gpu in EIGHT.gpus]
POD = Pod(namespace="ml", name="train-0", container="main")


def node(minor: int, access: str = ALLOWED) -> ContainerNode:
    return ContainerNode(
        path=f"/dev/nvidia{minor}", kind="c", major=195, minor=minor, access=access
    )


def container(number: int, *minors: int, within: int | None = None, **origin: Any) -> Container:
    one = snapshots.container(number)
    facts = replace(one.origin, **origin)
    return replace(one, origin=facts, nodes=tuple(map(node, minors)), within=within)


def holding(
    *containers: Container,
    measured: Reading = Reading(time=0, seconds=0),  # noqa: B008 - it does not change
    allocated: Allocations | None = None,
    inventory: Any = EIGHT,
) -> tuple[Holder, ...]:
    return holding_containers(containers, inventory, Users(measured), allocated or {})


def given(*ids: str, resource: str = "nvidia.com/gpu") -> tuple[Allocation, ...]:
    return (Allocation(resource=resource, ids=ids),)


KEY = ("ml", "train-0", "main")


def test_container_with_a_node_a_process_or_an_allocation() -> None:
    measured = reading(gpu(processes=(ProcessReading(pid=1002),)))
    holders = holding(
        container(1, 3),
        container(2),
        container(3, pod=POD),
        container(4),
        measured=measured,
        allocated={KEY: given("x")},
    )
    assert [holder.container.origin.name for holder in holders] == ["job-1", "job-2", "job-3"]
    assert [[held.index for held in holder.devices] for holder in holders] == [["3"], [], []]
    assert holders[2].allocations == given("x")


def with_nodes(**accesses: str) -> Container:
    """Return the first container, with nodes by the GPUs that they are of: ``gpu0=ALLOWED``."""
    nodes = tuple(node(int(name[3:]), access) for name, access in accesses.items())
    return replace(container(1), nodes=nodes)


EIGHT_GPUS = [replace(gpu(index), uuid=uuid) for index, uuid in enumerate(UUIDS)]


def held_and_used(
    one: Container, *pids: int, allocated: Allocations | None = None
) -> tuple[list[str], list[str]]:
    """Return the devices of a container, and those with series, if processes use GPU 1."""
    processes = tuple(ProcessReading(pid=pid) for pid in pids)
    measured = reading(EIGHT_GPUS[0], replace(EIGHT_GPUS[1], processes=processes), EIGHT_GPUS[2])
    holders = holding(one, measured=measured, allocated=allocated)
    uses = attribute(Users(measured), holders, ()).uses
    return [held.index for held in holders[0].devices], [use.device for use in uses]


def test_a_node_that_nvidia_smi_made_is_not_a_device() -> None:
    """Seen on two H200: without a hook it makes the nodes of all GPUs, which are refused."""
    assert held_and_used(with_nodes(gpu0=ALLOWED, gpu1=REFUSED)) == (["0"], ["0"])
    assert held_and_used(with_nodes(gpu0=ALLOWED, gpu1=UNKNOWN)) == (["0", "1"], ["0", "1"])


def test_a_refused_device_that_is_used_is_one() -> None:
    """After `systemctl daemon-reload` files that are open go on."""
    one = with_nodes(gpu0=ALLOWED, gpu1=REFUSED, gpu2=REFUSED)
    (pid,) = (process.pid for process in one.processes)
    assert held_and_used(one, pid) == (["0", "1"], ["0", "1"])
    assert held_and_used(one, pid + 1) == (["0"], ["0"])


def test_a_container_that_has_lost_its_gpu_has_no_series_of_it() -> None:
    assert held_and_used(with_nodes(gpu1=REFUSED)) == (["1"], [])


def test_a_refused_device_of_the_kubelet_is_the_pods() -> None:
    one = with_nodes(gpu1=REFUSED, gpu2=REFUSED)
    one = replace(one, origin=replace(one.origin, pod=POD))
    allocated = {KEY: given(f"{UUIDS[1]}::2")}
    assert held_and_used(one, allocated=allocated) == (["1"], ["1"])


def test_host_without_a_known_gpu() -> None:
    assert holding(container(1, 3), inventory=None, allocated={KEY: given(UUIDS[0])}) == ()


def test_pod_whose_processes_are_not_seen() -> None:
    """dcgm-exporter without hostPID knows such pods from the kubelet alone."""
    other = ("ml", "other", "main")
    (first, second) = holding(
        container(1, 3),
        allocated={KEY: given(UUIDS[2], f"{UUIDS[5]}::3"), other: given(UUIDS[5])},
    )[1:]
    assert first.container.origin.pod == POD
    assert [held.index for held in first.devices] == ["2", "5"]
    assert first.container.first != second.container.first
    measured = reading(replace(gpu(2), uuid=UUIDS[2]))
    (use,) = attribute(Users(measured), (first,), ()).uses
    assert (use.processes, use.memory, use.utilization) == (None, None, None)


def test_mig_device_of_the_kubelet() -> None:
    device = MIG.mig_devices[0]
    allocated = {KEY: given(device.uuid or "", resource="nvidia.com/mig-1g.10gb")}
    (holder,) = holding(allocated=allocated, inventory=MIG)
    assert [held.index for held in holder.devices] == [f"{device.gpu_index}:{device.index}"]
    divided = next(gpu for gpu in MIG.gpus if gpu.mig_enabled)
    assert holding(allocated={KEY: given(divided.uuid or "")}, inventory=MIG) == ()


def test_allocation_of_something_else() -> None:
    assert holding(allocated={KEY: given("mlx5_0", resource="rdma/hca")}) == ()


def test_container_in_a_container_belongs_to_the_outer_ones_pod() -> None:
    outer = container(1, pod=POD, unit="dind.service", user="ann")
    middle = container(2, within=1001)
    inner = container(3, 0, within=1002, user="2000")
    (holder,) = holding(outer, middle, inner)
    origin = holder.container.origin
    assert (origin.pod, origin.unit, origin.user) == (POD, "dind.service", "2000")


def test_container_in_a_container_is_not_what_its_engine_says() -> None:
    """The files of its engine are the outer container's, which may be hostile."""
    payroll = replace(POD, name="payroll")
    allocated = {(POD.namespace, "payroll", POD.container): given(UUIDS[5])}
    inner = container(2, 0, within=1001, pod=payroll)
    (holder, missing) = holding(container(1, pod=POD), inner, allocated=allocated)
    assert (holder.container.origin.pod, holder.allocations) == (POD, ())
    assert missing.container.origin.pod == payroll
    (holder, missing) = holding(container(1), inner, allocated=allocated)
    assert (holder.container.origin.pod, holder.allocations) == (payroll, ())
    assert [held.uuid for held in missing.devices] == [UUIDS[5]]


def test_containers_that_seem_to_be_in_each_other() -> None:
    """A parent that ended and whose number was used again."""
    (holder,) = holding(container(1, 0, within=1002), container(2, within=1001))
    assert holder.container.origin.name == "job-1"
