# SPDX-License-Identifier: Apache-2.0
"""What the kernel shows of a GPU host: /dev, /proc and /sys, written from one description.

The formats are those of real machines, tabs and trailing blanks included; the numbers are those of
the description, so a host's GPUs may be permuted, lost or split into MIG devices at will.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakehost.gpus import Gpu

NVIDIA_MAJOR = 195
DRM_MAJOR = 226
# Of verbs devices the first 32 have a fixed major (drivers/infiniband/core/uverbs_main.c); rdma_cm is
# a misc device with a minor of its boot.
VERBS_MAJOR, FIRST_VERBS_MINOR, MISC_MAJOR, RDMA_CM_MINOR = 231, 192, 10, 121
NVIDIACTL_MINOR, MODESET_MINOR = 255, 254
VIDEO_GID, RENDER_GID = 44, 992

# nvidia-caps minors: config, monitor, then for each GPU minor 15 GPU instances of one `access` and
# eight compute instances each; what follows 32 GPUs is the IMEX management capability.
MIG_CONFIG_MINOR, MIG_MONITOR_MINOR, FIRST_INSTANCE_MINOR = 1, 2, 3
GPUS, INSTANCES, COMPUTE_INSTANCES = 32, 15, 8
FABRIC_IMEX_MGMT_MINOR = FIRST_INSTANCE_MINOR + GPUS * INSTANCES * (1 + COMPUTE_INSTANCES)


def instance_minor(gpu_minor: int, gi: int, ci: int | None = None) -> int:
    """Minor of /dev/nvidia-caps/nvidia-capN for a GPU instance, or a compute instance in it."""
    first = FIRST_INSTANCE_MINOR + (gpu_minor * INSTANCES + gi) * (1 + COMPUTE_INSTANCES)
    return first if ci is None else first + 1 + ci


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The kernel's side of a host."""

    driver_version: str
    """Of the loaded module; the libraries' may differ."""
    open_module: bool = True
    loaded: bool = True
    gpus: tuple[Gpu, ...] = ()
    uvm_major: int = 510
    caps_major: int = 234
    nvswitch_major: int = 235
    imex_major: int = 236
    nvswitches: int = 0
    imex_channels: int = 0
    nvidia_fs_major: int = 509
    gdrdrv_major: int = 508
    nvidia_fs: int = 0
    """Nodes of GPUDirect Storage."""
    rdma_cards: int = 0
    gdrcopy: bool = False
    modeset: bool = True
    sockets: tuple[str, ...] = ()
    """Below /run: nvidia-persistenced/socket, nvidia-fabricmanager/socket."""
    release: str = "6.12.38+deb13-amd64"
    firmware_path: str = ""
    device_roots: tuple[str, ...] = ("",)
    """Below which roots of the host the device nodes are: the operator has two."""
    nvml_init_code: int = 0


def write(kernel: Kernel, root: Path) -> None:
    """Write the kernel's side of a host into ``root``; needs root for the device nodes."""
    for directory in ("dev", "proc", "sys/bus/pci/devices", "sys/module", "run"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    for device_root in kernel.device_roots:
        _write_devices(kernel, root / device_root)
    _write_files(
        root,
        {
            "proc/sys/kernel/osrelease": f"{kernel.release}\n",
            "proc/devices": _proc_devices(kernel),
            "sys/module/firmware_class/parameters/path": f"{kernel.firmware_path}\n",
            **(_procfs(kernel) if kernel.loaded else {}),
            **(_modules(kernel) if kernel.loaded else {}),
            **_transport_files(kernel),
        },
    )
    for gpu in kernel.gpus:
        if kernel.loaded and gpu.information == "unreadable":
            (root / f"proc/driver/nvidia/gpus/{gpu.pci_address}/information").mkdir(parents=True)
        if kernel.loaded and not gpu.excluded and gpu.information != "unknown":
            # Of every GPU that the module has initialised, whether it can be divided or not.
            directory = root / f"proc/driver/nvidia/capabilities/gpu{gpu.minor}/mig"
            directory.mkdir(parents=True, exist_ok=True)
    _write_sysfs(kernel, root)
    for socket in kernel.sockets:
        path = root / "run" / socket
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not bind(2): its paths end at 108 characters.
        os.mknod(path, stat.S_IFSOCK | 0o666)


def _write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


@dataclass(frozen=True, slots=True)
class _Node:
    """A character device below /dev."""

    path: str
    major: int
    minor: int
    mode: int = 0o666
    gid: int = 0


def _write_devices(kernel: Kernel, root: Path) -> None:
    dev = root / "dev"
    for node in [_Node("null", 1, 3), *(_device_nodes(kernel) if kernel.loaded else ())]:
        path = dev / node.path
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(path, stat.S_IFCHR | node.mode, os.makedev(node.major, node.minor))
        path.chmod(node.mode)  # what the umask took
        os.chown(path, 0, node.gid)
    for gpu in kernel.gpus:
        for name, _, _, suffix in _drm(gpu):
            by_path = dev / f"dri/by-path/pci-{gpu.pci_address}-{suffix}"
            by_path.parent.mkdir(exist_ok=True)
            by_path.symlink_to(f"../{name}")


def _device_nodes(kernel: Kernel) -> list[_Node]:
    caps = "nvidia-caps/nvidia-cap"
    nodes = [
        _Node("nvidiactl", NVIDIA_MAJOR, NVIDIACTL_MINOR),
        *[_Node("nvidia-modeset", NVIDIA_MAJOR, MODESET_MINOR)] * kernel.modeset,
        _Node("nvidia-uvm", kernel.uvm_major, 0),
        _Node("nvidia-uvm-tools", kernel.uvm_major, 1),
        _Node(f"{caps}{MIG_CONFIG_MINOR}", kernel.caps_major, MIG_CONFIG_MINOR, 0o400),
        _Node(f"{caps}{MIG_MONITOR_MINOR}", kernel.caps_major, MIG_MONITOR_MINOR, 0o444),
    ]
    nodes += [
        _Node(f"nvidia-nvswitch{switch}", kernel.nvswitch_major, switch)
        for switch in range(kernel.nvswitches)
    ]
    nodes += [_Node("nvidia-nvswitchctl", kernel.nvswitch_major, 255)] * bool(kernel.nvswitches)
    nodes += [
        _Node(f"nvidia-caps-imex-channels/channel{channel}", kernel.imex_major, channel)
        for channel in range(kernel.imex_channels)
    ]
    nodes += [
        _Node(f"nvidia-fs{number}", kernel.nvidia_fs_major, number)
        for number in range(kernel.nvidia_fs)
    ]
    nodes += [_Node("gdrdrv", kernel.gdrdrv_major, 0)] * kernel.gdrcopy
    nodes += [
        _Node(f"infiniband/uverbs{card}", VERBS_MAJOR, FIRST_VERBS_MINOR + card)
        for card in range(kernel.rdma_cards)
    ]
    nodes += [_Node("infiniband/rdma_cm", MISC_MAJOR, RDMA_CM_MINOR)] * bool(kernel.rdma_cards)
    instances = {
        minor
        for gpu in kernel.gpus
        for mig in gpu.mig
        for minor in (
            instance_minor(gpu.minor, mig.gi),
            instance_minor(gpu.minor, mig.gi, mig.ci),
        )
    }
    nodes += [_Node(f"{caps}{minor}", kernel.caps_major, minor, 0o444) for minor in instances]
    nodes += [
        _Node(f"nvidia{gpu.minor}", NVIDIA_MAJOR, gpu.minor)
        for gpu in kernel.gpus
        if gpu.device_node and not gpu.excluded
    ]
    # The board's own display controller is card0, as on any server.
    drm = [("card0", 0, VIDEO_GID, "card")] + [each for gpu in kernel.gpus for each in _drm(gpu)]
    nodes += [_Node(f"dri/{name}", DRM_MAJOR, minor, 0o660, gid) for name, minor, gid, _ in drm]
    return nodes


def _drm(gpu: Gpu) -> tuple[tuple[str, int, int, str], ...]:
    """Name, minor, group and by-path suffix of each DRM node of ``gpu``."""
    nodes = []
    if gpu.drm_card is not None:
        nodes.append((f"card{gpu.drm_card}", gpu.drm_card, VIDEO_GID, "card"))
    if gpu.drm_render is not None:
        nodes.append((f"renderD{gpu.drm_render}", gpu.drm_render, RENDER_GID, "render"))
    return tuple(nodes)


def _branch(kernel: Kernel) -> int:
    return int(kernel.driver_version.partition(".")[0])


def _proc_devices(kernel: Kernel) -> str:
    devices = [(1, "mem"), (4, "tty"), (5, "/dev/tty"), (5, "/dev/console"), (10, "misc")]
    devices += [(VERBS_MAJOR, "infiniband_verbs")] * bool(kernel.rdma_cards)
    devices += [(kernel.nvidia_fs_major, "nvidia-fs")] * bool(kernel.nvidia_fs)
    devices += [(kernel.gdrdrv_major, "gdrdrv")] * kernel.gdrcopy
    devices += [(13, "input"), (136, "pts"), (DRM_MAJOR, "drm"), (254, "gpiochip")]
    if kernel.loaded:
        # One name for all of 195 until the 545 branch.
        whole = ["nvidia-frontend"] if _branch(kernel) < 545 else ["nvidia"]
        if _branch(kernel) >= 545:
            whole += ["nvidia-modeset"] * kernel.modeset + ["nvidiactl"]
        devices += [(NVIDIA_MAJOR, name) for name in whole]
        devices += [(kernel.uvm_major, "nvidia-uvm"), (kernel.caps_major, "nvidia-caps")]
        devices += [(kernel.nvswitch_major, "nvidia-nvswitch")]
        if _branch(kernel) >= 535:
            devices += [(kernel.imex_major, "nvidia-caps-imex-channels")]
    lines = [f"{major:3} {name}" for major, name in sorted(devices, key=lambda each: each[0])]
    return "\n".join(["Character devices:", *lines, "", "Block devices:", "259 blkext", ""])


def _transport_files(kernel: Kernel) -> dict[str, str]:
    """What is in /sys/class for RDMA cards, and in /etc and /run for GPUDirect Storage."""
    files = {
        f"sys/class/infiniband_verbs/uverbs{card}/dev": f"{VERBS_MAJOR}:{FIRST_VERBS_MINOR + card}\n"
        for card in range(kernel.rdma_cards)
    }
    if kernel.rdma_cards:
        files["sys/class/misc/rdma_cm/dev"] = f"{MISC_MAJOR}:{RDMA_CM_MINOR}\n"
    if kernel.nvidia_fs:
        files["etc/cufile.json"] = '{"properties": {"use_poll_mode": false}}\n'
        files["run/udev/data/c509:0"] = "I:1\n"
    return files


def _procfs(kernel: Kernel) -> dict[str, str]:
    nvidia = "proc/driver/nvidia"
    files = {
        f"{nvidia}/version": _version_text(kernel),
        f"{nvidia}/params": _PARAMS,
        f"{nvidia}/registry": 'Binary: ""\n',
        "proc/driver/nvidia-caps/mig-minors": mig_minors(),
        "proc/driver/nvidia-caps/nvlink-minors": "fabric-mgmt 0\n",
        "proc/driver/nvidia-caps/sys-minors": f"fabric-imex-mgmt {FABRIC_IMEX_MGMT_MINOR}\n",
        f"{nvidia}/capabilities/fabric-imex-mgmt": _access(FABRIC_IMEX_MGMT_MINOR, 0o400),
        f"{nvidia}/capabilities/mig/config": _access(MIG_CONFIG_MINOR, 0o400),
        f"{nvidia}/capabilities/mig/monitor": _access(MIG_MONITOR_MINOR, 0o444),
    }
    for gpu in kernel.gpus:
        directory = f"{nvidia}/gpus/{gpu.pci_address}"
        files[f"{directory}/registry"] = 'Binary: ""\n'
        files[f"{directory}/power"] = _POWER
        if gpu.information in {"whole", "unknown"}:
            files[f"{directory}/information"] = _information(gpu, kernel)
        for mig in gpu.mig:
            instance = f"{nvidia}/capabilities/gpu{gpu.minor}/mig/gi{mig.gi}"
            files[f"{instance}/access"] = _access(instance_minor(gpu.minor, mig.gi), 0o444)
            files[f"{instance}/ci{mig.ci}/access"] = _access(
                instance_minor(gpu.minor, mig.gi, mig.ci), 0o444
            )
    return files


def _version_text(kernel: Kernel) -> str:
    module = "x86_64 Kernel Module"
    built = "Tue Apr  8 12:41:17 UTC 2025"
    if kernel.open_module:
        module, built = (
            "Open Kernel Module for x86_64",
            "Release Build  (dvs-builder@host)  " + built,
        )
    return (
        f"NVRM version: NVIDIA UNIX {module}  {kernel.driver_version}  {built}\n"
        "GCC version:  gcc version 14.2.0 (Debian 14.2.0-19) \n"
    )


def _information(gpu: Gpu, kernel: Kernel) -> str:
    known = gpu.information == "whole"
    lines = [
        f"Model: \t\t {gpu.model.name if known else 'Unknown'}",
        f"IRQ:   \t\t {41 + gpu.minor}",
        f"GPU UUID: \t {gpu.uuid if known else 'GPU-????????-????-????-????-????????????'}",
        f"Video BIOS: \t {gpu.model.video_bios if known else '??.??.??.??.??'}",
        "Bus Type: \t PCIe",
        "DMA Size: \t 52 bits",
        "DMA Mask: \t 0xfffffffffffff",
        f"Bus Location: \t {gpu.pci_address}",
        f"Device Minor: \t {gpu.minor}",
    ]
    if _branch(kernel) >= 510:
        lines.append(f"GPU Firmware: \t {kernel.driver_version if known else 'N/A'}")
    lines.append(f"GPU Excluded:\t {'Yes' if gpu.excluded else 'No'}")
    return "\n".join(lines) + "\n"


def _access(minor: int, mode: int) -> str:
    return f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n"


def mig_minors() -> str:
    """The text of /proc/driver/nvidia-caps/mig-minors, the same on every host: 4322 lines."""
    lines = [f"config {MIG_CONFIG_MINOR}", f"monitor {MIG_MONITOR_MINOR}"]
    for gpu in range(GPUS):
        for gi in range(INSTANCES):
            lines.append(f"gpu{gpu}/gi{gi}/access {instance_minor(gpu, gi)}")
            lines += [
                f"gpu{gpu}/gi{gi}/ci{ci}/access {instance_minor(gpu, gi, ci)}"
                for ci in range(COMPUTE_INSTANCES)
            ]
    return "\n".join(lines) + "\n"


def _modules(kernel: Kernel) -> dict[str, str]:
    names = ["nvidia", "nvidia_uvm"] + ["nvidia_modeset", "nvidia_drm"] * kernel.modeset
    files = {f"sys/module/{name}/version": f"{kernel.driver_version}\n" for name in names}
    files |= {f"sys/module/{name}/initstate": "live\n" for name in names}
    if kernel.modeset:
        files["sys/module/nvidia_drm/parameters/modeset"] = "Y\n"
    files["proc/modules"] = "".join(
        f"{name} 1830912 0 - Live 0xffffffffc080c000 ({'O' if kernel.open_module else 'PO'})\n"
        for name in reversed(names)
    )
    return files


def _write_sysfs(kernel: Kernel, root: Path) -> None:
    lost = {gpu.pci_address for gpu in kernel.gpus if gpu.off_the_bus}
    bmc = ("0000:03:00.0", 0x1A03, 0x2000, 0x030000, 0, (("card0", 0),))
    devices = [bmc] + [
        (
            gpu.pci_address,
            0x10DE,
            gpu.model.device_id,
            gpu.model.pci_class,
            gpu.numa_node,
            tuple((name, minor) for name, minor, _, _ in _drm(gpu)),
        )
        for gpu in kernel.gpus
    ]
    devices += [
        (f"0000:0{5 + switch}:00.0", 0x10DE, 0x22A3, 0x068000, 0, ())
        for switch in range(kernel.nvswitches)
    ]
    for address, vendor, device, pci_class, numa_node, drm in devices:
        # As the kernel has it: the device lies below its bridge, and the bus lists links.
        home = f"devices/pci{address[:7]}/{address}"
        files = {
            "vendor": f"0x{vendor:04x}\n",
            "device": f"0x{device:04x}\n",
            "class": f"0x{pci_class:06x}\n",
            "numa_node": f"{numa_node}\n",
            "power/runtime_status": "active\n",
            "uevent": f"PCI_CLASS={pci_class:X}\nPCI_SLOT_NAME={address}\n",
            **{f"drm/{name}/dev": f"{DRM_MAJOR}:{minor}\n" for name, minor in drm},
        }
        _write_files(root / "sys" / home, files)
        (root / "sys" / home / "config").write_bytes(
            b"\xff" * 64 if address in lost else struct.pack("<HH60x", vendor, device)
        )
        (root / f"sys/bus/pci/devices/{address}").symlink_to(f"../../../{home}")
        for name, _ in drm:
            link = root / f"sys/class/drm/{name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"../../{home}/drm/{name}")


_POWER = """\
Runtime D3 status:          Disabled by default
Video Memory:               Active

GPU Hardware Support:
 Video Memory Self Refresh: Not Supported
 Video Memory Off:          Supported
"""

_PARAMS = """\
ResmanDebugLevel: 4294967295
RmLogonRC: 1
ModifyDeviceFiles: 1
DeviceFileUID: 0
DeviceFileGID: 0
DeviceFileMode: 438
InitializeSystemMemoryAllocations: 1
UsePageAttributeTable: 4294967295
EnableMSI: 1
EnableStreamMemOPs: 0
NvLinkDisable: 0
RmProfilingAdminOnly: 1
PreserveVideoMemoryAllocations: 0
DynamicPowerManagement: 3
EnableGpuFirmware: 18
ImexChannelCount: 2048
CreateImexChannel0: 0
RegistryDwords: ""
RegistryDwordsPerDevice: ""
RmMsg: ""
GpuBlacklist: ""
TemporaryFilePath: ""
ExcludedGpus: ""
"""
