# SPDX-License-Identifier: Apache-2.0
"""Hosts out of public reports, each rebuilt as far as it matters.

Nodes that are not as expected, NVML's errors, PCI addresses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from cdi_gen.generate.options import Options
from cdi_gen.host import boot
from cdi_gen.inventory import Inventory
from tests.fakehost import nvml_mock
from tests.fakehost.gpus import T4, gpu
from tests.fakehost.hosts import FakeHost
from tests.host import looking
from tests.host.driver_tree import SmallHost

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


def replace_nvml(fake: FakeHost, source: Path) -> None:
    """Build NVML from another source."""
    fake.nvml.unlink()
    command = ["cc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(fake.nvml)]
    subprocess.run([*command, str(source)], check=True)


def test_an_nvml_that_knows_nothing_of_mig(own_host: OwnHost, tmp_path: Path) -> None:
    """nvidia-container-toolkit issues 63 and 77: drivers 390 and 440 have no such function."""
    fake = own_host("550-lib64")
    source = tmp_path / "old.c"
    renamed = "".join(f"#define nvmlDeviceGet{name} was_not_yet_{name}\n" for name in NEW)
    source.write_text(f'{renamed}#include "{nvml_mock.SOURCE}"\n')
    replace_nvml(fake, source)
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


GPU_AT = {0: "GPU 0 at 0000:1b:00.0", 1: "GPU 1 at 0000:1e:00.0"}


def answer_queries_with(fake: FakeHost, index: int, code: int) -> None:
    """Make NVML give this error to every question about a GPU, but not for its handle."""
    description = fake.nvml.parent / nvml_mock.DESCRIPTION
    lines = description.read_text().splitlines(keepends=True)
    uuid = fake.kernel.gpus[index].uuid
    (number,) = (number for number, line in enumerate(lines) if line.startswith(f"gpu {uuid}"))
    assert lines[number].count(" 0 0 NVIDIA") == 1
    lines[number] = lines[number].replace(" 0 0 NVIDIA", f" 0 {code} NVIDIA")
    description.write_text("".join(lines))


@pytest.mark.parametrize(("code", "words"), [(15, "GPU is lost"), (16, "GPU requires reset")])
def test_gpu_whose_mig_mode_cannot_be_read_because_it_is_lost_is_left_out(
    own_host: OwnHost, code: int, words: str
) -> None:
    """NVIDIA/nvidia-docker#1553: a failed GPU of several, of which only nvidia-smi tells."""
    fake = own_host("550-8gpu")
    answer_queries_with(fake, 1, code)
    process = looking.run("generate", host_root=str(fake.root))
    assert process.returncode == 4
    assert f"left out: {GPU_AT[1]}: {words} [CDG-H105]\n" in process.stderr
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0, 2, 3, 4, 5, 6, 7]
    assert "/dev/nvidia1" not in nodes_of(inventory)


@pytest.mark.parametrize(
    ("code", "words"), [(999, "Unknown Error"), (4, "Insufficient Permissions")]
)
def test_mig_mode_that_nvml_does_not_report_is_missing_and_not_disabled(
    own_host: OwnHost, code: int, words: str
) -> None:
    """NVIDIA/nvidia-container-toolkit#69 (Unknown Error), Project-HAMi/HAMi#1044 (MIG, permissions).

    Before, the GPU was offered as a full GPU without a word, as if NVML had said that MIG is off.
    """
    fake = own_host("550-8gpu")
    answer_queries_with(fake, 1, code)
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [
        (record.name, record.reason, record.code)
        for record in inventory.missing
        if "MIG mode" in record.name
    ] == [(f"the MIG mode of {GPU_AT[1]}", f"unknown: {words}", "CDG-H208")]
    process = looking.run("generate", host_root=str(fake.root))
    assert f"the host lacks the MIG mode of {GPU_AT[1]}" in process.stderr


def test_instances_of_a_gpu_whose_mig_mode_nvml_does_not_report_are_left_out_with_its_words(
    own_host: OwnHost, tmp_path: Path
) -> None:
    """NVIDIA/gpu-feature-discovery#6: the kernel has instances, NVML has a permission error.

    Before, the reason was that NVML says that MIG is disabled.
    """
    fake = own_host("550-mig-mixed")
    source = tmp_path / "nvml.c"
    source.write_text(
        f'#define nvmlDeviceGetMigMode replaced\n#include "{nvml_mock.SOURCE}"\n'
        "#undef nvmlDeviceGetMigMode\n"
        "int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *next) { return 4; }\n"
    )
    replace_nvml(fake, source)
    unusable = [(item.device, item.reason) for item in looking.look_at(fake).unusable_devices]
    assert (f"MIG devices of {GPU_AT[1]}", "Insufficient Permissions") in unusable


@pytest.mark.parametrize("version", [None, "440.33.01"])
def test_gpu_with_mig_is_no_full_gpu_where_procfs_has_no_capabilities(
    own_host: OwnHost, version: str | None
) -> None:
    """NVIDIA/nvidia-container-toolkit#198, dra-driver-nvidia-gpu#12: a node of kind.

    libnvidia-container covers /proc/driver/nvidia of the node. Before, NVML was not asked, and a
    GPU with MIG enabled was offered as a full GPU. A driver before 450 has no MIG.
    """
    fake = own_host("550-mig-mixed")
    shutil.rmtree(fake.root / "proc/driver/nvidia/capabilities")
    if version:
        (fake.root / "sys/module/nvidia/version").write_text(f"{version}\n")
    (fake.root / ".dockerenv").touch()
    inventory = looking.look_at(fake)
    assert not [item for item in inventory.missing if "MIG mode" in item.name]
    if version:
        assert [gpu.mig_enabled for gpu in inventory.gpus] == [False, False, False]
        return
    names = {device.name for device in generate(inventory).devices}
    assert "0" in names
    assert names.isdisjoint({"1", "2"})
    reason = "the kernel has no capability for the GPU instance or the compute instance"
    unusable = [(item.device, item.reason) for item in inventory.unusable_devices]
    assert ("MIG device 1:0", reason) in unusable


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_nvml_that_a_user_installed_is_not_loaded_by_root(own_host: OwnHost) -> None:
    """NVIDIA/libnvidia-container#178: the driver was installed by a user, and belongs to uid 1000."""
    fake = own_host("550-mig-empty")
    os.chown(fake.nvml, 1000, 1000)
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0, 1, 2]
    reasons = {item.reason for item in inventory.missing if "MIG mode" in item.name}
    assert reasons == {f"unknown: root does not load {fake.nvml}: {fake.nvml} belongs to user 1000"}


GetSmall = Callable[..., SmallHost]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        # NVIDIA/nvidia-docker#1316, #816: Azure and Hyper-V, where procfs has all 32 bits.
        ("03f8cfdd:00:00.0", "pci-3f8cfdd-00-00-0"),
        ("c0d32321:00:00.0", "pci-c0d32321-00-00-0"),
        # NVIDIA/k8s-device-plugin#1482: a DGX Spark. NVML calls it 0000000F:01:00.0.
        ("000f:01:00.0", "pci-000f-01-00-0"),
        # NVIDIA/aicr#1858: a virtual machine of Azure with an H100.
        ("000a:00:00.0", "pci-000a-00-00-0"),
    ],
)
def test_domain_of_a_pci_address_may_have_up_to_eight_digits(
    small: GetSmall, address: str, name: str
) -> None:
    host = small(gpus=(gpu(0, T4, pci_address=address),))
    host.libraries("usr/lib/x86_64-linux-gnu")
    spec = generate(host.look())
    (device,) = (device for device in spec.devices if device.name == name)
    paths = {node.path for node in device.container_edits.device_nodes}
    assert paths >= {"/dev/nvidia0", f"/dev/dri/by-path/pci-{address}-render"}
    listed = looking.run("list", "-o", "name", host_root=str(host.root)).stdout.split()
    assert f"nvidia.com/gpu={name}" in listed


def test_gpu_of_a_driver_that_prints_no_minor_is_named_with_the_reason(small: GetSmall) -> None:
    """canonical/lxd#3950: a GTX 650 whose `information` ends with the bus location."""
    host = small()
    host.libraries("usr/lib/x86_64-linux-gnu")
    (information,) = host.root.glob("proc/driver/nvidia/gpus/*/information")
    information.write_text(
        "Model: \t\t GeForce GTX 650\nIRQ:   \t\t 44\n"
        "GPU UUID: \t GPU-e3f822b9-8c5f-95a5-b379-8dfdeefd7758\nVideo BIOS: \t 80.07.35.00.80\n"
        "Bus Type: \t PCIe\nDMA Size: \t 40 bits\nDMA Mask: \t 0xffffffffff\n"
        "Bus Location: \t 0000:04:00.0\n"
    )
    process = looking.run("generate", check=False, host_root=str(host.root))
    assert process.returncode == 1
    assert f"{GPU_AT[0]}: the driver reports no device minor" in process.stderr


@pytest.mark.parametrize("directory", ["usr/lib64", "usr/lib/x86_64-linux-gnu"])
def test_driver_without_libcuda_and_nvml_is_told_apart_from_no_driver(
    small: GetSmall, directory: str
) -> None:
    """containers/toolbox#1694, negativo17/nvidia-driver#11: Fedora, without the packages for CUDA.

    Before, the message said that none of the libraries is installed.
    """
    host = small()
    host.libraries(directory, "libEGL_nvidia", "libGLX_nvidia", "libnvidia-glcore", "libnvidia-cfg")
    with pytest.raises(CdiGenError, match="neither its libcuda nor its libnvidia-ml") as caught:
        host.look()
    version = host.tree.version
    assert caught.value.message.endswith(f"such as /{directory}/libEGL_nvidia.so.{version}")
    assert "nvidia-driver-cuda-libs" in (caught.value.hint or "")
    assert caught.value.code == "CDG-H003"
