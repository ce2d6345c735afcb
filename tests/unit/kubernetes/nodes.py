# SPDX-License-Identifier: Apache-2.0
"""Nodes of a cluster: the golden inventories, with properties."""

from __future__ import annotations

from functools import cache

from cdi_gen.inventory import Inventory
from cdi_gen.inventory.json_form import load
from cdi_gen.inventory.properties import GpuProperties, Link, Properties
from tests.host.looking import REPOSITORY


@cache
def inventory(name: str) -> Inventory:
    """Return a golden inventory: ``hgx-550-8gpu`` has 8 GPUs, ``flat-550-mig-mixed`` MIG devices."""
    text = (REPOSITORY / "specs/golden" / name / "inventory.json").read_text()
    return load(text)


def properties(inventory: Inventory, **of_gpu: object) -> Properties:
    """Return properties: half of the GPUs in each of two NUMA nodes, NVLinks in pairs."""
    count = len(inventory.gpus)
    gpus = tuple(
        GpuProperties(
            index=gpu.index,
            uuid=gpu.uuid,
            product=gpu.model,
            memory_mib=81_920,
            numa_node=2 * gpu.index // count,
            **of_gpu,  # type: ignore[arg-type]
        )
        for gpu in inventory.gpus
    )
    links = tuple(
        Link(
            first=first,
            second=second,
            pcie="node" if 2 * first // count == 2 * second // count else "system",
            nvlinks=4 if first // 2 == second // 2 else 0,
        )
        for first in range(count)
        for second in range(first + 1, count)
    )
    return Properties(gpus=gpus, links=links)
