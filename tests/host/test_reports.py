# SPDX-License-Identifier: Apache-2.0
"""Hosts out of public reports, each rebuilt as far as it matters: nodes that are not as expected."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.generate import generate
from cdi_gen.generate.options import Options
from cdi_gen.host import boot
from cdi_gen.inventory import Inventory
from tests.fakehost import nvml_mock
from tests.fakehost.hosts import FakeHost
from tests.host import looking

OwnHost = Callable[[str], FakeHost]

pytestmark = pytest.mark.host


def nodes_of(inventory: Inventory, name: str = "all", **choices: Any) -> dict[str, int]:
    """(mode by path) of a device's nodes and the spec's."""
    spec = generate(inventory, Options(**choices))
    (device,) = (each for each in spec.devices if each.name == name)
    nodes = (*spec.container_edits.device_nodes, *device.container_edits.device_nodes)
    return {node.path: node.file_mode or 0 for node in nodes}


def remove(fake: FakeHost, *names: str) -> None:
    for name in names:
        (fake.root / "dev" / name).unlink()


def test_drm_has_nodes_of_a_third_kind(own_host: OwnHost) -> None:
    """nvidia-container-toolkit issues 40 and 46, lxd issue 4591: controlD64, long gone from /dev."""
    fake = own_host("550-lib64")
    drm = fake.root / f"sys/bus/pci/devices/{fake.kernel.gpus[0].pci_address}/drm"
    (drm / "controlD64").symlink_to("card1")
    inventory = looking.look_at(fake)
    assert not [path for path in nodes_of(inventory) if "controlD" in path]
    assert not [each for each in inventory.missing if "controlD" in each.name]


def test_the_node_for_graphics_comes_after_the_spec(
    own_host: OwnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nvidia-container-toolkit issue 1982: a unit at boot, and Vulkan fails all day."""
    fake = own_host("550-lib64")
    remove(fake, "nvidia-modeset")
    assert "/dev/nvidia-modeset" not in nodes_of(looking.look_at(fake))
    monkeypatch.setattr(boot, "is_over", lambda _: False)
    assert "/dev/nvidia-modeset" in nodes_of(looking.look_at(fake))


def test_display_is_asked_for_and_its_node_was_never_made(own_host: OwnHost) -> None:
    """libnvidia-container pull request 388: the container does not start."""
    fake = own_host("550-lib64")
    remove(fake, "nvidia-modeset")
    for rootless, there in ((False, True), (True, False)):
        choices: dict[str, Any] = {"capabilities": ("display", "utility"), "rootless": rootless}
        assert ("/dev/nvidia-modeset" in nodes_of(looking.look_at(fake), **choices)) is there


@pytest.mark.parametrize(("decimal", "mode", "gid"), [(438, 0o666, 0), (432, 0o660, 27)])
def test_the_driver_has_its_nodes_made_for_a_group(
    own_host: OwnHost, monkeypatch: pytest.MonkeyPatch, decimal: int, mode: int, gid: int
) -> None:
    """nvidia-container-toolkit issue 210 (Gentoo's root:video), cloudypad issue 381 (0644).

    A node that an engine is to make gets the mode that the driver would have given it.
    """
    fake = own_host("550-lib64")
    params = fake.root / "proc/driver/nvidia/params"
    text = params.read_text().replace("DeviceFileMode: 438", f"DeviceFileMode: {decimal}")
    params.write_text(text.replace("DeviceFileGID: 0", f"DeviceFileGID: {gid}"))
    remove(fake, "nvidia0", "nvidia-modeset", "nvidia-uvm")
    monkeypatch.setattr(boot, "is_over", lambda _: False)
    inventory = looking.look_at(fake)
    found = nodes_of(inventory)
    assert (found["/dev/nvidia0"], found["/dev/nvidia-modeset"]) == (mode, mode)
    assert found["/dev/nvidia-uvm"] == 0o666
    assert inventory.gpus[0].nodes[0].gid == gid


def test_a_mode_that_was_meant_as_octal(own_host: OwnHost) -> None:
    """vowstar-overlay issue 6: DeviceFileMode=660 in decimal gives c-w--wx-wT; no spec is broken."""
    fake = own_host("550-lib64")
    (fake.root / "dev/nvidia0").chmod(0o1224)
    assert nodes_of(looking.look_at(fake))["/dev/nvidia0"] == 0o224


def test_numbers_in_a_container_s_world(own_host: OwnHost) -> None:
    """nvkind issue 63: a node with GPUs 3 and 4 of eight; its first is number 0 for everybody."""
    fake = own_host("550-8gpu")
    remove(fake, *(f"nvidia{minor}" for minor in (0, 1, 2, 5, 6, 7)))
    (fake.root / ".dockerenv").touch()
    inventory = looking.look_at(fake)
    assert [(gpu.index, gpu.nodes[0].path) for gpu in inventory.gpus] == [
        (0, "/dev/nvidia3"),
        (1, "/dev/nvidia4"),
    ]
    listed = looking.run("list", "-o", "name", host_root=str(fake.root)).stdout.split()
    assert {"nvidia.com/gpu=0", "nvidia.com/gpu=1"} <= set(listed)
    assert "nvidia.com/gpu=2" not in listed


def test_docker_in_docker_sees_fewer_gpus_in_procfs(own_host: OwnHost) -> None:
    """nvidia-container-runtime issue 92: procfs has one GPU, /dev has the nodes of two."""
    fake = own_host("550-lib64")
    gone = fake.root / f"proc/driver/nvidia/gpus/{fake.kernel.gpus[0].pci_address}"
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    inventory = looking.look_at(fake)
    assert [(gpu.index, gpu.nodes[0].path) for gpu in inventory.gpus] == [(0, "/dev/nvidia1")]
    assert "/dev/nvidia0" not in nodes_of(inventory)


def test_unprivileged_lxd_with_a_gpu_and_nothing_else(own_host: OwnHost) -> None:
    """nvidia-docker issue 1546: an LXD container with nesting, a GPU's nodes, and no others."""
    fake = own_host("550-lib64")
    remove(fake, "nvidia-modeset", "nvidia-uvm-tools", "nvidia1", "dri/card2", "dri/renderD129")
    uid_map = fake.root / "proc/1/uid_map"
    uid_map.parent.mkdir(parents=True)
    uid_map.write_text("         0    1000000 1000000000\n")
    found = nodes_of(looking.look_at(fake))
    for path in found:
        assert (fake.root / path[1:]).exists() or (fake.root / path[1:]).is_symlink(), path
    assert {"/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"} <= set(found)


NEW = (
    "MigMode",
    "MaxMigDeviceCount",
    "MigDeviceHandleByIndex",
    "GpuInstanceId",
    "ComputeInstanceId",
)


def test_an_nvml_that_knows_nothing_of_mig(own_host: OwnHost, tmp_path: Path) -> None:
    """nvidia-container-toolkit issues 63 and 77: drivers 390 and 440 have no such function."""
    fake = own_host("550-lib64")
    source = tmp_path / "old.c"
    renamed = "".join(f"#define nvmlDeviceGet{name} was_not_yet_{name}\n" for name in NEW)
    source.write_text(f'{renamed}#include "{nvml_mock.SOURCE}"\n')
    fake.nvml.unlink()
    command = ["cc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(fake.nvml)]
    subprocess.run([*command, str(source)], check=True)
    # Such that NVML has to be asked.
    gpu = fake.kernel.gpus[1]
    information = fake.root / f"proc/driver/nvidia/gpus/{gpu.pci_address}/information"
    information.write_text(information.read_text().replace(gpu.uuid, "GPU-????????-????"))
    inventory = looking.look_at(fake)
    assert [each.uuid for each in inventory.gpus] == [each.uuid for each in fake.kernel.gpus]
    assert not [each.mig_enabled for each in inventory.gpus if each.mig_enabled]
    assert not inventory.unusable_devices


def test_uvm_has_another_major_in_a_container_that_outlives_a_boot(own_host: OwnHost) -> None:
    """proxmox-setup-scripts issue 7, WendyOS pull request 1888: the node is of the boot before."""
    fake = own_host("550-lib64")
    remove(fake, "nvidia-uvm")
    os.mknod(fake.root / "dev/nvidia-uvm", 0o020666, os.makedev(507, 0))
    inventory = looking.look_at(fake)
    (node,) = (each for each in inventory.control_nodes if each.path == "/dev/nvidia-uvm")
    assert (node.major, node.minor) == (fake.kernel.uvm_major, 0)
    assert [each.path for each in inventory.stale_nodes] == ["/dev/nvidia-uvm"]
