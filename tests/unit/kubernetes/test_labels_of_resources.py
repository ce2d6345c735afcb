# SPDX-License-Identifier: Apache-2.0
"""Labels and device plugin tell the scheduler the same, for every MIG layout of up to three GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.resources.advertise import advertise
from cdi_gen.kubernetes.settings import Settings
from tests.unit.kubernetes.labelled import A100, facts, made, mig_host, shared

OF_A_GPU: tuple[list[str] | None, ...] = (
    None, [], ["1g.5gb"], ["1g.5gb"] * 2, ["3g.20gb"] * 2, ["1g.5gb", "3g.20gb"], ["1c.3g.20gb"], [""],
)  # fmt: skip
"""The profiles of a GPU; None: MIG is not enabled, an empty text: NVML does not report the profile."""

LAYOUTS = [layout for count in (1, 2, 3) for layout in product(OF_A_GPU, repeat=count)]


def advertised(layout: tuple[list[str] | None, ...], settings: Settings) -> dict[str, int]:
    """The number of devices of each resource, as the kubelet gets it."""
    of = facts(with_uuids(layout), A100)
    resources = advertise(of.inventory, of.properties, settings).resources
    return {resource.name: len(resource.devices) for resource in resources}


def with_uuids(layout: tuple[list[str] | None, ...]) -> Inventory:
    host = mig_host(*layout)
    gpus = tuple(replace(gpu, uuid=f"GPU-{gpu.index}") for gpu in host.gpus)
    return replace(host, gpus=gpus)


def labelled(layout: tuple[list[str] | None, ...], settings: Settings) -> Iterator[tuple[str, int]]:
    """The number of devices of each resource, as the labels have it: count and replicas."""
    values = made(facts(with_uuids(layout), A100), settings)
    for name, value in values.items():
        resource, _, key = name.rpartition(".")
        if key == "count":
            number = int(value) * max(1, int(values[f"{resource}.replicas"]))
            yield f"nvidia.com/{resource}", number


@pytest.mark.parametrize("replicas", [1, 3])
def test_labels_of_single_count_what_is_advertised(replicas: int) -> None:
    settings = replace(shared("gpu", replicas=replicas), mig_strategy="single")
    for layout in LAYOUTS:
        expected = advertised(layout, settings) or {"nvidia.com/gpu": 0}
        assert dict(labelled(layout, settings)) == expected, layout
        values = made(facts(with_uuids(layout), A100), settings)
        assert values["gpu.product"].endswith("-MIG-INVALID") is (expected["nvidia.com/gpu"] == 0)


def test_labels_of_mixed_count_the_mig_devices_that_are_advertised() -> None:
    settings = replace(shared("gpu", "mig-1g.5gb", replicas=3), mig_strategy="mixed")
    for layout in LAYOUTS:
        expected = advertised(layout, settings)
        whole = expected.pop("nvidia.com/gpu", 0)
        labels = dict(labelled(layout, settings))
        # This label counts divided GPUs too; its replicas are 0 if all GPUs are divided.
        labels.pop("nvidia.com/gpu")
        assert labels == expected, layout
        values = made(facts(with_uuids(layout), A100), settings)
        assert (values["gpu.replicas"] == "0") is (whole == 0)
