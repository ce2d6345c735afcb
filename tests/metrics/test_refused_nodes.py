# SPDX-License-Identifier: Apache-2.0
"""A GPU whose node is in a container of crun, and which its control group refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import set_typical
from tests.metrics import gpu_lab
from tests.metrics.gpu_lab import GpuLab
from tests.unit.metrics.parsing import parse


@pytest.fixture
def lab(
    own_host: Callable[[str], FakeHost], tmp_path: Path, lab_of: Callable[[str], object]
) -> Iterator[GpuLab]:
    lab_of(gpu_lab.SUITE)
    with gpu_lab.enter(own_host("550-8gpu"), tmp_path) as entered:
        yield entered


def test_each_gpu_is_of_the_container_that_can_use_it(lab: GpuLab) -> None:
    """Without a hook the driver's libraries make the nodes of all GPUs in each container."""
    nodes = lab.nodes()
    for device in nodes:
        set_typical(lab.values, device)
    pids = lab.run(
        {"one": nodes["0"], "two": nodes["1"]}, refused={"one": nodes["1"], "two": nodes["0"]}
    )
    assert "0,1 (refused)" in lab.cdi_gen("who")
    assert measured(lab) == ({("one", "0"), ("two", "1")}, {"0": "one", "1": "two"})
    top = json.loads(lab.cdi_gen("top", "-o", "json"))
    devices = [[device["index"] for device in entry["devices"]] for entry in top["containers"]]
    assert devices == [["0"], ["1"]]
    # As after `systemctl daemon-reload`: a file that is open goes on.
    lab.values.run("1", pids["one"], memory=1 << 30, sm=50)
    held, names = measured(lab)
    assert held == {("one", "0"), ("one", "1"), ("two", "1")}
    assert names == {"0": "one"}


def measured(lab: GpuLab) -> tuple[set[tuple[str, str]], dict[str, str]]:
    """Return the containers with the GPUs that they hold, and the container in GPUs' labels."""
    text = lab.cdi_gen("metrics", "--once", "--examine", "none")
    held, names = set(), {}
    for name, labels, _ in parse(text.encode()).samples:
        if name == "cdi_gen_container_gpu_held":
            held.add((labels["container_id"], labels["gpu"]))
        elif name == "DCGM_FI_DEV_GPU_UTIL" and "container" in labels:
            names[labels["gpu"]] = labels["container"]
    return held, names
