# SPDX-License-Identifier: Apache-2.0
"""Nodes that the table of mounts tells, of containers whose files must not be touched."""

from __future__ import annotations

import pytest

from cdi_gen.containers.device_nodes import FoundNode, bind_mounted
from cdi_gen.containers.mounts import Mount, may_hang

NODES = {
    path: FoundNode(path, "c", major, 0)
    for path, major in (("/dev/nvidia0", 195), ("/dev/dri/card0", 226))
}


def mount(root: str, point: str, kind: str = "devtmpfs") -> Mount:
    return Mount(id="7", device="0:5", root=root, point=point, kind=kind, source="udev")


@pytest.mark.parametrize(
    ("mounted", "paths"),
    [
        (mount("/nvidia0", "/dev/gpu"), {"/dev/gpu": 195}),
        (mount("/nvidia0", "/dev/gpu", "tmpfs"), {"/dev/gpu": 195}),
        (mount("/", "/dev"), {"/dev/nvidia0": 195, "/dev/dri/card0": 226}),
        (mount("/dri", "/dev/x"), {"/dev/x/card0": 226}),
        (mount("/dri", "/dev/x", "tmpfs"), {}),
        (mount("/nvidia0", "/tmp/nvidia0"), {}),
        (mount("/", "/host/dev"), {}),
    ],
)
def test_nodes_of_a_table(mounted: Mount, paths: dict[str, int]) -> None:
    assert {node.path: node.major for node in bind_mounted([mounted], NODES)} == paths


@pytest.mark.parametrize(
    ("mounted", "expected"),
    [
        (mount("/", "/", "overlay"), True),
        (mount("/", "/dev", "overlay"), True),
        (mount("/", "/dev/dri", "overlay"), True),
        (mount("/", "/data", "overlay"), False),
        (mount("/", "/", "ext4"), False),
    ],
)
def test_overlay_may_hang(mounted: Mount, *, expected: bool) -> None:
    assert may_hang([mounted]) is expected
