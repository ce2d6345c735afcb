# SPDX-License-Identifier: Apache-2.0
"""Device nodes that are missing, stale, denied, or of GPUs that belong to virtual machines."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.doctor.examining import doctor, examine, healthy, link_in, log, write
from tests.fakehost.gpus import several
from tests.fakehost.kernel import DRM_MAJOR, Kernel
from tests.host.platform_hosts import passthrough
from tests.pains import pain
from tests.pains.following import follow
from tests.system.machine import machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

WHOLE = Kernel(driver_version="550.163.01", gpus=several(2))


@pain(
    44,
    "stat /dev/nvidia-uvm: no such file or directory",
    command="cdi-gen doctor missing-nodes",
    codes=("CDG-H201",),
    simulated=True,
)
def test_uvm_node_is_missing_after_the_boot(tmp_path: Path) -> None:
    host = machine(tmp_path / "host", WHOLE)
    for name in ("nvidia-uvm", "nvidia-uvm-tools"):
        (host / "dev" / name).unlink()
    finding = examine(host, "missing-nodes").finding("CDG-H201")
    assert "/dev/nvidia-uvm, /dev/nvidia-uvm-tools are missing" in finding.message

    follow(finding.fix, host)
    assert (host / "dev/nvidia-uvm").is_char_device()
    assert examine(host, "missing-nodes").status == "ok"


@pain(
    44,
    "CUDA error 999 (unknown error), nvidia-smi works",
    command="cdi-gen doctor missing-nodes",
    codes=("CDG-H202",),
    simulated=True,
)
def test_uvm_module_is_not_loaded(tmp_path: Path) -> None:
    host = machine(tmp_path / "host", WHOLE)
    devices = host / "proc/devices"
    line = f"{WHOLE.uvm_major} nvidia-uvm\n"
    text = devices.read_text()
    assert line in text
    devices.write_text(text.replace(line, ""))
    for name in ("nvidia-uvm", "nvidia-uvm-tools"):
        (host / "dev" / name).unlink()
    found = examine(host, "missing-nodes")
    assert set(found.codes) == {"CDG-H202"}
    finding = found.findings[0]
    assert "nvidia_uvm is not loaded: CUDA needs /dev/nvidia-uvm" in finding.message

    loaded = f"test $1 = nvidia_uvm; cp {tmp_path}/devices $HOST/proc/devices"
    (tmp_path / "devices").write_text(text)
    follow(finding.fix, host, modprobe=f"PATH=/usr/bin:/bin; {loaded}")
    assert examine(host, "missing-nodes").status == "ok"


@pain(
    45,
    "error stat'ing file `/dev/dri/renderD135`: No such device or address (rootless)",
    command="cdi-gen doctor drm-nodes",
    codes=("CDG-A063",),
    simulated=True,
)
def test_render_node_of_a_gpu_that_is_gone(tmp_path: Path) -> None:
    host = machine(tmp_path / "host", WHOLE)
    assert examine(host, "drm-nodes").status == "ok"
    stale = host / "dev/dri/renderD135"
    os.mknod(stale, stat.S_IFCHR | 0o660, os.makedev(DRM_MAJOR, 135))
    assert not (host / "sys/class/drm/renderD135").exists()

    finding = examine(host, "drm-nodes").finding("CDG-A063")
    assert finding.subject == "/dev/dri/renderD135"
    follow(finding.fix.replace(" && sudo cdi-gen refresh", ""), host)
    assert not stale.exists()
    assert examine(host, "drm-nodes").status == "ok"


@pain(
    47,
    "Failed to initialize NVML: Insufficient Permissions",
    command="cdi-gen doctor selinux",
    codes=("CDG-A222",),
    simulated=True,
)
def test_selinux_denies_the_nodes(tmp_path: Path) -> None:
    host = machine(tmp_path / "host", WHOLE)
    write(host, "sys/fs/selinux/enforce", "1")
    boolean = write(host, "sys/fs/selinux/booleans/container_use_devices", "0 0")
    healthy(host)
    log(
        host,
        'audit: type=1400 avc:  denied  { read write } for  pid=9 comm="nvidia-smi" '
        'path="/dev/nvidiactl" scontext=system_u:system_r:container_t:s0:c1,c2 '
        "tcontext=system_u:object_r:xserver_misc_device_t:s0 tclass=chr_file permissive=0",
    )
    finding = examine(host, "selinux").finding("CDG-A222")
    assert finding.severity == "error"
    assert "1 denials for NVIDIA's nodes" in finding.message
    assert "Insufficient Permissions" in finding.message

    follow(
        finding.fix,
        host,
        setsebool=f'test "$*" = "-P {boolean.name} on"; echo "1 1" > {boolean}',
    )
    assert examine(host, "selinux").status == "ok"


@pain(
    48,
    "vfio: group 42 is not viable; and: no GPU in containers of a host with vfio-pci",
    command="cdi-gen doctor gpu-drivers",
    codes=("CDG-A010", "CDG-A011"),
    simulated=True,
)
def test_gpu_of_a_virtual_machine_shares_its_group(tmp_path: Path) -> None:
    host = passthrough(tmp_path / "host", gpus=1).root
    gpu, audio = "0000:18:00.0", "0000:18:00.1"
    for address in (gpu, audio):
        add_to_group(host, address, 42)
    bind(host, audio, "snd_hda_intel")

    found = examine(host, "gpu-drivers")
    assert "for a virtual machine: containers cannot use it" in found.finding("CDG-A010").message
    finding = found.finding("CDG-A011")
    assert finding.subject == audio
    assert "IOMMU group 42" in finding.message
    assert "bound to snd_hda_intel" in finding.message
    assert doctor(host, "gpu-drivers").code == 1

    # The kernel does what is written to these files; here the test does it.
    follow(finding.fix, host)
    devices = host / f"sys/bus/pci/devices/{audio}"
    assert (devices / "driver_override").read_text() == "vfio-pci\n"
    assert (devices / "driver/unbind").read_text() == f"{audio}\n"
    assert (host / "sys/bus/pci/drivers_probe").read_text() == f"{audio}\n"
    (devices / "driver").unlink()
    bind(host, audio, (devices / "driver_override").read_text().strip())
    found = examine(host, "gpu-drivers")
    assert (found.status, found.codes) == ("warning", ("CDG-A010",))


def bind(host: Path, address: str, driver: str) -> None:
    """Bind a function to a driver."""
    directory = host / f"sys/bus/pci/drivers/{driver}"
    directory.mkdir(parents=True, exist_ok=True)
    link_in(host, f"sys/bus/pci/devices/{address}", "driver", directory)


def add_to_group(host: Path, address: str, number: int) -> None:
    """Put a function into an IOMMU group; the audio function of a GPU is created."""
    device = host / f"sys/bus/pci/devices/{address}"
    if not device.exists():
        device.mkdir()
        for name, value in {"vendor": "0x10de", "device": "0x22bb", "class": "0x040300"}.items():
            write(device, name, f"{value}\n")
    group = host / f"sys/kernel/iommu_groups/{number}"
    (group / "devices").mkdir(parents=True, exist_ok=True)
    link_in(host, f"sys/kernel/iommu_groups/{number}/devices", address, device.resolve())
    link_in(host, f"sys/bus/pci/devices/{address}", "iommu_group", group)
