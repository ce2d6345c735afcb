# SPDX-License-Identifier: Apache-2.0
"""Which GPUs and MIG devices a container has, by its nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.containers.holders import has_all, held_devices
from cdi_gen.containers.model import Container, ContainerNode, Origin, Process
from cdi_gen.inventory import Inventory
from cdi_gen.inventory.json_form import load
from tests.cli.program import GOLDEN


def inventory_of(name: str) -> Inventory:
    return load((GOLDEN / name / "inventory.json").read_text())


EIGHT = inventory_of("hgx-550-8gpu")
MIG = inventory_of("flat-550-mig-mixed")


def node(major: int, minor: int, access: str = "allowed", path: str = "") -> ContainerNode:
    path = path or f"/dev/x{major}:{minor}"
    return ContainerNode(path=path, kind="c", major=major, minor=minor, access=access)


def indices(nodes: list[ContainerNode], inventory: Inventory = EIGHT) -> list[tuple[str, str]]:
    return [(held.index, held.access) for held in held_devices(nodes, inventory)]


def test_gpu_is_known_by_its_numbers_not_its_name() -> None:
    assert indices([node(195, 3, path="/dev/gpu")]) == [("3", "allowed")]
    assert indices([node(195, 255), node(510, 0)]) == []
    assert indices([replace(node(195, 3), kind="b")]) == []


def test_gpu_of_another_minor() -> None:
    gpus = tuple(
        replace(gpu, minor=7 - gpu.index, nodes=(replace(gpu.nodes[0], minor=7 - gpu.index),))
        for gpu in EIGHT.gpus
    )
    assert indices([node(195, 7)], replace(EIGHT, gpus=gpus)) == [("0", "allowed")]


@pytest.mark.parametrize("access", ["refused", "unknown", "unrestricted"])
def test_access(access: str) -> None:
    assert indices([node(195, 0, access)]) == [("0", access)]


def test_mig_device_needs_the_nodes_of_both_instances() -> None:
    device = MIG.mig_devices[0]
    gpu = next(gpu for gpu in MIG.gpus if gpu.index == device.gpu_index)
    caps = [device.gpu_instance_cap, device.compute_instance_cap]
    name = f"{gpu.index}:{device.index}"
    nodes = [node(n.major, n.minor) for n in (*gpu.nodes, *caps)]
    assert indices(nodes, MIG) == [(name, "allowed")]
    assert indices(nodes[:-1], MIG) == []
    assert indices(nodes[1:], MIG) == []
    refused = [*nodes[:-1], replace(nodes[-1], access="refused")]
    assert indices(refused, MIG) == [(name, "refused")]


def container(*nodes: ContainerNode, privileged: bool) -> Container:
    first = Process(pid=1, start_time=1, parent=0, name="x", user=0, mount_namespace=1)
    return Container(
        origin=Origin(), first=first, processes=(first,), nodes=nodes, is_privileged=privileged
    )


def test_privileged_container_has_all() -> None:
    nodes = [node(195, minor) for minor in range(8)]
    held = held_devices(nodes, EIGHT)
    assert has_all(container(*nodes, privileged=True), held, EIGHT)
    assert not has_all(container(*nodes, privileged=False), held, EIGHT)
    assert not has_all(container(*nodes[:7], privileged=True), held[:7], EIGHT)
    assert not has_all(container(privileged=True), (), EIGHT)
