# SPDX-License-Identifier: Apache-2.0
"""Which of the available devices a container gets."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from cdi_gen.kubernetes.resources import preference
from cdi_gen.kubernetes.resources.device import Device, Resource
from cdi_gen.kubernetes.resources.links import Scores
from cdi_gen.kubernetes.resources.preference import preferred
from tests.unit.kubernetes import topologies
from tests.unit.kubernetes.nodes import inventory, properties

HGX = inventory("hgx-550-8gpu")
SCORES = Scores(properties(HGX).links)
"""NVLinks between 0 and 1, 2 and 3 …; 0 to 3 in one NUMA node, 4 to 7 in the other."""


def gpus(count: int = 8) -> Resource:
    devices = (Device(id=str(n), uuid=str(n), index=str(n), gpu_index=n) for n in range(count))
    return Resource(name="nvidia.com/gpu", devices=tuple(devices))


def replicas(gpu_count: int, count: int) -> Resource:
    whole = gpus(gpu_count)
    devices = (
        replace(device, id=f"{device.id}::{number}", replicas=count)
        for device in whole.devices
        for number in range(count)
    )
    return replace(whole, devices=tuple(devices), sharing="time-slicing")


def choose(available: str, size: int, required: str = "", scores: Scores = SCORES) -> str:
    return "".join(sorted(preferred(available, required, size, gpus(), scores)))


@pytest.mark.parametrize(
    ("available", "size", "required", "chosen"),
    [
        ("01234567", 2, "", "01"),
        ("0234567", 2, "", "23"),
        ("1234567", 1, "", "1"),  # the others are pairs: none is split
        ("01235", 1, "", "5"),
        ("012345", 3, "4", "045"),  # a pair, and a GPU whose own pair has to be split
        ("02345", 3, "", "023"),  # the whole pair 45 stays for a later request
        ("01234567", 4, "", "0123"),
        ("01234567", 4, "6", "4567"),
        ("0246", 2, "", "02"),
        ("01234567", 8, "", "01234567"),
        ("01", 2, "", "01"),
        ("01", 3, "", "01"),
        ("0123", 1, "3", "3"),
        ("0123", 0, "", ""),
        ("", 1, "", ""),
    ],
)
def test_the_closest_gpus_are_chosen(available: str, size: int, required: str, chosen: str) -> None:
    assert choose(available, size, required) == chosen


ALL = "01234567"


@pytest.mark.parametrize(
    ("table", "available", "size", "chosen"),
    [
        # Pairs with two links, and the four GPUs of a board, which have nine links between them.
        (topologies.DGX_1_V100, ALL, 2, "03"),
        (topologies.DGX_1_V100, "124567", 2, "12"),
        (topologies.DGX_1_V100, "4567", 2, "47"),
        (topologies.DGX_1_V100, "56", 2, "56"),
        (topologies.DGX_1_V100, ALL, 3, "023"),
        (topologies.DGX_1_V100, ALL, 4, "0123"),
        (topologies.DGX_1_V100, "0124567", 4, "4567"),
        (topologies.DGX_1_V100, "12567", 1, "2"),
        # All pairs have the same NVLinks, by NVSwitches: PCIe decides.
        (topologies.DGX_A100, ALL, 2, "01"),
        (topologies.DGX_A100, "034567", 2, "45"),
        (topologies.DGX_A100, "01234", 1, "4"),
        (topologies.DGX_A100, "01245", 3, "012"),
        (topologies.DGX_A100, "124567", 4, "4567"),
        (topologies.HGX_H100, ALL, 2, "01"),
        (topologies.HGX_H100, ALL, 4, "0123"),
        (topologies.HGX_H100, "0124567", 4, "4567"),
        (topologies.HGX_H100, "0124567", 3, "012"),
        (topologies.HGX_H100, "01456", 2, "01"),
        (topologies.PCIE, ALL, 2, "01"),
        (topologies.PCIE, "1234567", 1, "1"),
        (topologies.PCIE, "1234567", 2, "23"),
        (topologies.PCIE, "024567", 2, "45"),
        (topologies.PCIE, "0124567", 4, "4567"),
        (topologies.PCIE, "0124567", 3, "012"),
    ],
)
def test_machines_with_eight_gpus(table: str, available: str, size: int, chosen: str) -> None:
    assert choose(available, size, scores=Scores(topologies.links(table))) == chosen


@pytest.mark.parametrize(
    ("table", "sizes", "best"),
    [
        (topologies.DGX_1_V100, {2: 220, 4: 1020}, "03 12 47 56"),
        (topologies.DGX_A100, {2: 1220, 4: 7280}, "01 23 45 67"),
        (topologies.HGX_H100, {2: 1820, 4: 10920}, "01 23 45 67"),
        (topologies.PCIE, {2: 50, 4: 260}, "01 23 45 67"),
    ],
    ids=["DGX-1", "DGX A100", "HGX H100", "PCIe"],
)
def test_pods_that_follow_each_other_get_sets_of_the_highest_score(
    table: str, sizes: dict[int, int], best: str
) -> None:
    """Four pods with two GPUs get the four best pairs, and two pods with four the best fours."""
    scores = Scores(topologies.links(table))
    for size, score in sizes.items():
        free, chosen = ALL, []
        while free:
            chosen.append(choose(free, size, scores=scores))
            free = "".join(name for name in free if name not in chosen[-1])
        inside = [
            sum(scores.of(int(one), int(other)) for one, other in combinations(names, 2))
            for names in chosen
        ]
        assert min(inside) == score
        assert " ".join(chosen) == (best if size == 2 else "0123 4567")


def test_required_devices_are_always_chosen_and_unknown_ones_never() -> None:
    for size in range(1, 6):
        for required in combinations("01234567", min(size, 2)):
            chosen = preferred("01234567x", required, size, gpus(), SCORES)
            assert len(chosen) == len(set(chosen)) == size
            assert set(required) <= set(chosen) <= set("01234567")


def test_where_sets_are_too_many_the_choice_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    def inside(chosen: tuple[str, ...]) -> int:
        return sum(SCORES.of(int(first), int(second)) for first, second in combinations(chosen, 2))

    for available in ("01234567", "0235678", "124567"):
        for size in (2, 3, 4):
            monkeypatch.setattr(preference, "MAX_SETS", 20_000)
            exact = inside(preferred(available, "", size, gpus(), SCORES))
            monkeypatch.setattr(preference, "MAX_SETS", 0)
            assert inside(preferred(available, "", size, gpus(), SCORES)) == exact


class TestReplicas:
    SHARED = replicas(3, 4)

    def test_distributed_takes_the_gpu_with_the_fewest_allocated_replicas(self) -> None:
        available = ["0::2", "0::3", "1::0", "1::1", "1::2", "2::3"]
        assert preferred(available, [], 1, self.SHARED, SCORES) == ("1::0",)

    def test_packed_takes_the_gpu_with_the_most(self) -> None:
        available = ["0::2", "0::3", "1::0", "1::1", "1::2", "2::3"]
        assert preferred(available, [], 1, self.SHARED, SCORES, "packed") == ("2::3",)

    @pytest.mark.parametrize("policy", ["distributed", "packed"])
    def test_a_container_gets_replicas_of_different_gpus(self, policy: str) -> None:
        available = [device.id for device in self.SHARED.devices]
        chosen = preferred(available, ["1::1"], 3, self.SHARED, SCORES, policy)  # type: ignore[arg-type]
        assert {name[0] for name in chosen} == set("012")

    def test_then_again_of_the_same(self) -> None:
        available = [device.id for device in self.SHARED.devices]
        assert len(preferred(available, [], 7, self.SHARED, SCORES)) == 7
