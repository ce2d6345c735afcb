# SPDX-License-Identifier: Apache-2.0
"""The fuzz targets run, on what they begin with and on damaged forms of it; no fuzzer is needed."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS


def test_every_target_has_seeds() -> None:
    assert SEEDS.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_on_its_seeds(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_on_damaged_seeds(name: str) -> None:
    chance = random.Random(name)
    for seed in SEEDS[name]:
        small = seed[:4000]
        for _ in range(60):
            content = bytearray(small)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(content) + 1)
                content[at : at + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
            TARGETS[name](bytes(content))
