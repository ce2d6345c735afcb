# SPDX-License-Identifier: Apache-2.0
"""Requests that are rejected: for the container, for the devices, for the image's requirements."""

from __future__ import annotations

import pytest

from cdi_base.requirement import UnsatisfiedError
from cdi_runtime.specs import prepared
from tests.runtime.resolving import FILE, PREPARED, UUID, Document, World, spec


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("acme.com/net=eth0", "device of another vendor"),
        ("nvidia.com/gpu=0,acme.com/net=eth0", "device of another vendor"),
        ("management.nvidia.com/gpu=all", "privileged"),
        ("x" * 10_240, ""),
        ("0\n1", ""),
        ("../../etc", ""),
        ("0;true", ""),
    ],
)
def test_hostile_environment_is_rejected(world: World, value: str, reason: str) -> None:
    world.file(FILE)
    world.file(spec("acme.com/net", "FILE", "eth0"), "net.json")
    assert reason in world.refusal(f"NVIDIA_VISIBLE_DEVICES={value}")


@pytest.mark.parametrize("value", ["all", "0", "none", "void", "", "nvidia.com/gpu=all"])
def test_unprivileged_container_gets_nothing_if_not_accepted(world: World, value: str) -> None:
    """A31 of the attack suite."""
    world.settings.accept_environment_unprivileged = False
    world.file(FILE)
    assert world.devices(value) is None


def _with_nodes(*minors: int) -> Document:
    nodes = [{"path": f"/dev/nvidia{minor}"} for minor in minors]
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": "0", "containerEdits": {"deviceNodes": nodes}}],
        "containerEdits": {"deviceNodes": [{"path": "/dev/nvidiactl"}]},
    }


FACTS = {
    "cuda": "12.4",
    "driver": "550.54",
    "gpus": [
        {"index": 0, "minor": 3, "uuid": UUID, "arch": "9.0", "brand": "nvidia"},
        {"index": 1, "minor": 0, "uuid": "GPU-x", "arch": "7.5", "brand": "tesla"},
    ],
}


def test_requirements_are_checked_for_the_selected_gpus(world: World) -> None:
    world.file(_with_nodes(3))
    world.prepared = {**PREPARED, "facts": FACTS}
    world.devices("0", "NVIDIA_REQUIRE_ARCH=arch>=8.0")
    world.file(_with_nodes(3, 0))
    with pytest.raises(UnsatisfiedError, match=r"7\.5"):
        world.devices("0", "NVIDIA_REQUIRE_ARCH=arch>=8.0")
    world.settings.disable_require = True
    world.devices("0", "NVIDIA_REQUIRE_ARCH=arch>=8.0")


def test_requirements_of_the_image_are_checked(world: World) -> None:
    world.file(FILE)
    with pytest.raises(UnsatisfiedError):
        world.devices("0", "NVIDIA_REQUIRE_CUDA=cuda>=13.0")
    world.devices("0", "NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_DISABLE_REQUIRE=1")
    world.devices("0", "NVIDIA_REQUIRE_CUDA=cuda>=12.0")


def test_requirements_without_facts_are_a_warning(world: World) -> None:
    """A container with devices of a spec file still starts; a warning says that nothing was checked."""
    world.file(FILE)
    world.prepared = prepared.NotPreparedError("no cdi-gen")
    assert world.devices("0", "NVIDIA_REQUIRE_CUDA=cuda>=13.0") == ["FILE=nvidia.com/gpu=0"]
    assert any("requirements are not checked: no cdi-gen" in line for line in world.messages)


def test_requirements_do_not_apply_to_other_vendors(world: World) -> None:
    world.file(spec("acme.com/net", "FILE", "eth0"), "net.json")
    names = {"cdi.k8s.io/x": "acme.com/net=eth0"}
    assert world.edits("NVIDIA_REQUIRE_CUDA=cuda>=99", annotations=names) == [
        "FILE=acme.com/net=eth0"
    ]


def test_long_list_of_devices_is_shortened(world: World) -> None:
    world.file(spec("nvidia.com/gpu", "FILE", *map(str, range(1000))))
    text = world.refusal("NVIDIA_VISIBLE_DEVICES=1000")
    assert text.endswith("available: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 988 more")
