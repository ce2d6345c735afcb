# SPDX-License-Identifier: Apache-2.0
"""`docker run --gpus` and compose's `deploy`, as public reports and files have them.

Each is a few lines of the config.json that dockerd writes; the container starts, and has the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.prestart.machine import LIBRARIES, NO_DEVICE, Engine, Machine

pytestmark = pytest.mark.engine

ORDINARY_USER = {"uid": 1000, "gid": 1000}


def nobody_who_may_nothing(machine: Machine, process: dict[str, Any]) -> None:
    """Aureliolo/synthorg#1445 (2026): read_only, cap_drop ALL, no-new-privileges, USER 65532."""
    process |= {"user": {"uid": 65532, "gid": 65532}, "capabilities": {}, "noNewPrivileges": True}
    machine.spec["root"]["readonly"] = True


def nodes_of_a_group(machine: Machine, process: dict[str, Any]) -> None:
    """j3soon/ros2-essentials#45 (2024): VirtualGL makes the nodes 0660, of a group of its own."""
    process |= {"user": ORDINARY_USER, "capabilities": {}}
    machine.mode, machine.group = "660", 1005


def a_request_by_two_ways(machine: Machine, process: dict[str, Any]) -> None:
    """cresset-template/cresset#216 (2024): `runtime: nvidia` and `deploy`, with the image's own ENV."""
    process["env"] += ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=0"]


def all_that_there_is(machine: Machine, process: dict[str, Any]) -> None:
    """dstackai/dstack#4006 (2026): every capability of a GPU, on a host without a display."""
    process["env"].append(
        "NVIDIA_DRIVER_CAPABILITIES=utility,compute,graphics,video,display,compat32"
    )


def a_configuration_in_memory(machine: Machine, process: dict[str, Any]) -> None:
    """`tmpfs: /etc` beside `read_only: true`: what the loader reads lies there, and is left alone."""
    machine.spec["root"]["readonly"] = True
    machine.spec["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs"})


def an_icd_file_of_the_image(machine: Machine, process: dict[str, Any]) -> None:
    """arnold-benchmark/arnold#7 (2023), isaac-sim/IsaacSim#357 (2025): there already, and empty."""
    machine.write("/etc/vulkan/icd.d/nvidia_icd.json")


REPORTS = [
    nobody_who_may_nothing,
    nodes_of_a_group,
    a_request_by_two_ways,
    all_that_there_is,
    a_configuration_in_memory,
    an_icd_file_of_the_image,
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda each: each.__name__)
def test_container_starts_and_has_its_gpu(
    machine: Machine, engine: Engine, report: Callable[[Machine, dict[str, Any]], None]
) -> None:
    icd = machine.driver / "nvidia_icd.json"
    icd.write_text("the driver's")
    icd.chmod(0o644)
    options = ["ro", "nosuid", "nodev", "rbind", "rprivate"]
    machine.edits["mounts"].append(
        {
            "hostPath": str(icd),
            "containerPath": "/etc/vulkan/icd.d/nvidia_icd.json",
            "options": options,
        }
    )
    report(machine, machine.spec["process"])
    output = machine.started(
        engine, f"cat </dev/nvidia0; ls {LIBRARIES}; cat /etc/vulkan/icd.d/nvidia_icd.json"
    )
    assert NO_DEVICE.lower() in output.lower()
    assert "libcuda.so.1\n" in output
    assert output.endswith("the driver's")
