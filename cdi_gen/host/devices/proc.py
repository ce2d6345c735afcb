# SPDX-License-Identifier: Apache-2.0
"""Reads the facts of the NVIDIA kernel module and of its GPUs in ``/proc`` and ``/sys``.

Layout as of the 470 to 580 modules: nv-procfs.c and nvidia-caps.c of open-gpu-kernel-modules.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cdi_base import nvidia
from cdi_base.versions import at_least
from cdi_gen.host.roots import Root

_VERSION = re.compile(r"\b(\d{2,4}\.\d{1,4}(?:\.\d{1,4})?)\b", re.ASCII)
_ARCHITECTURE = re.compile(r"\b(x86_64|aarch64|ppc64le)\b", re.ASCII)
"""``NVIDIA UNIX x86_64 Kernel Module``, ``NVIDIA UNIX Open Kernel Module for x86_64``."""

FRONTEND = ("nvidia", "nvidia-frontend")
"""Names of the driver's main major in ``/proc/devices``; the second up to driver 460."""
CAPS = ("nvidia-caps",)

GPUS = "/proc/driver/nvidia/gpus"
"""A directory for each GPU, named after its PCI address."""


class KernelModule(NamedTuple):
    """The loaded module ``nvidia``."""

    version: str
    kind: str
    """``open`` or ``proprietary``."""
    architecture: str | None
    """As ``uname -m`` prints it; None if the module does not report it."""


class GpuInformation(NamedTuple):
    """One ``/proc/driver/nvidia/gpus/*/information``."""

    pci_address: str
    model: str
    uuid: str | None
    """None while the module has not initialised the GPU: it then prints question marks."""
    minor: int
    excluded: bool


class MigCapability(NamedTuple):
    """A capability file of a MIG GPU instance, or of a compute instance in it."""

    gpu_minor: int
    gpu_instance: int
    compute_instance: int | None
    device_minor: int
    file_mode: int


def kernel_module(root: Root) -> KernelModule | None:
    """Return the loaded module; None if no module is loaded."""
    try:
        text = root.read_text("/proc/driver/nvidia/version")
    except OSError:
        return None
    line = text.partition("\n")[0]
    try:
        version = root.read_text("/sys/module/nvidia/version").strip()
    except OSError:
        version = ""
    if not _VERSION.fullmatch(version):
        match = _VERSION.search(line)
        if match is None:
            return None
        version = match[1]
    architecture = _ARCHITECTURE.search(line)
    return KernelModule(
        version=version,
        kind="open" if "Open Kernel Module" in line else "proprietary",
        architecture=architecture[1] if architecture else None,
    )


def device_file_attributes(root: Root) -> tuple[int, int]:
    """Return the mode and the group of new nodes, which some distributions configure.

    They do not apply to nvidia-uvm, which always has group root and mode 0666
    (nvidia-modprobe-utils.c).
    """
    mode, gid = (_device_file_parameter(root, name) for name in ("Mode", "GID"))
    return 0o666 if mode is None else mode & 0o777, gid or 0


def device_file_owner(root: Root) -> int:
    """Return the owner of new nodes, to which the same applies."""
    return _device_file_parameter(root, "UID") or 0


def manages_device_files(root: Root) -> bool:
    """Whether programs may create the driver's nodes: ``NVreg_ModifyDeviceFiles`` is not 0."""
    return _parameters(root).get("ModifyDeviceFiles", "").strip() != "0"


def _device_file_parameter(root: Root, name: str) -> int | None:
    value = _parameters(root).get(f"DeviceFile{name}", "").strip()
    return int(value) if value.isdecimal() and len(value) < 10 else None


def _parameters(root: Root) -> dict[str, str]:
    """Return the parameters of the kernel module."""
    try:
        text = root.read_text("/proc/driver/nvidia/params")
    except OSError:
        return {}
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def majors(root: Root) -> dict[str, int]:
    """Return major numbers of character devices by driver name, from ``/proc/devices``."""
    try:
        text = root.read_text("/proc/devices")
    except OSError:
        return {}
    numbers: dict[str, int] = {}
    for line in text.partition("Block devices:")[0].splitlines():
        number, _, name = line.strip().partition(" ")
        if number.isdecimal():
            numbers.setdefault(name, int(number))
    return numbers


def kernel_release(root: Root) -> str:
    """Return the host's kernel release, as ``uname -r`` prints it; empty if unknown."""
    try:
        return root.read_text("/proc/sys/kernel/osrelease").strip()
    except OSError:
        return ""


def gpu_addresses(root: Root) -> list[str]:
    """Return the PCI addresses of the module's GPUs, in PCI order."""
    try:
        directory = root.resolve(GPUS)
    except OSError:
        return []
    names = [entry.name for entry in root.entries(directory)]
    numbers = ((nvidia.pci_address(name), name) for name in names if name.count(":") == 2)
    return [name for _, name in sorted(pair for pair in numbers if pair[0] is not None)]


def gpu_information(root: Root, address: str) -> GpuInformation:
    """Return the facts of one GPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has no device minor, because the GPU failed to initialise.
    """
    text = root.read_text(f"{GPUS}/{address}/information")
    values = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        values[key.strip()] = value.strip()
    minor = _device_number(values.get("Device Minor", ""))
    if minor is None:
        raise ValueError("the driver reports no device minor")
    uuid = values.get("GPU UUID", "")
    model = values.get("Model", "")
    return GpuInformation(
        pci_address=address,
        model=model if model.isprintable() else "",
        uuid=uuid if uuid.startswith("GPU-") and nvidia.uuid(uuid) == uuid else None,
        minor=minor,
        excluded=values.get("GPU Excluded") == "Yes",
    )


def mig_capabilities(root: Root) -> list[MigCapability]:
    """Return the capability files of all GPU and compute instances that exist now.

    The facts come from procfs, because ``/dev/nvidia-caps/nvidia-capN`` is created on demand.
    """
    capabilities = []
    for gpu, gpu_path in _numbered(root, "/proc/driver/nvidia/capabilities", "gpu"):
        for instance, path in _numbered(root, f"{gpu_path}/mig", "gi"):
            capabilities += _capability(root, path, gpu, instance, None)
            for compute, compute_path in _numbered(root, path, "ci"):
                capabilities += _capability(root, compute_path, gpu, instance, compute)
    return capabilities


def gpus_with_mig_directory(root: Root) -> frozenset[int] | None:
    """Return the minor numbers of GPUs that may have MIG devices; None if any GPU may have them.

    The module creates the directory for every GPU that it has initialised, with or without MIG
    support (``osRmCapRegisterGpu``). It is empty if MIG is disabled or no instance exists.
    libnvidia-container mounts a tmpfs over ``/proc/driver/nvidia`` of a container, without the
    capabilities. A driver before 450 has neither them nor MIG.
    """
    if not root.exists("/proc/driver/nvidia/capabilities"):
        module = kernel_module(root)
        may_have_mig = at_least(module.version if module else None, "450", unknown=True)
        return None if may_have_mig else frozenset()
    gpus = _numbered(root, "/proc/driver/nvidia/capabilities", "gpu")
    return frozenset(
        number for number, path in gpus if any(entry.name == "mig" for entry in root.entries(path))
    )


def is_off_the_bus(root: Root, address: str) -> bool:
    """Whether a GPU no longer responds: its configuration space reads as all ones.

    A suspended GPU is not read, because this would resume it.
    """
    device = f"/sys/bus/pci/devices/{address}"
    try:
        if root.read_text(f"{device}/power/runtime_status").strip() == "suspended":
            return False
    except OSError:
        pass  # a kernel without power management
    try:
        return root.read_bytes(f"{device}/config", 4) == b"\xff" * 4
    except OSError:
        return False


def mig_access(root: Root, name: str) -> tuple[int, int] | None:
    """Return minor and mode of the node for ``config`` or ``monitor`` of all MIG devices."""
    return _access(root, f"/proc/driver/nvidia/capabilities/mig/{name}")


def _numbered(root: Root, directory: str, kind: str) -> list[tuple[int, str]]:
    """Return (N, path) of the subdirectories ``kindN``, in the order of N."""
    try:
        resolved = root.resolve(directory)
    except OSError:
        return []
    directories = []
    for entry in root.entries(resolved):
        number = entry.name.removeprefix(kind)
        if number != entry.name and number.isascii() and number.isdecimal():
            directories.append((int(number), f"{resolved}/{entry.name}"))
    return sorted(directories)


def _capability(
    root: Root, directory: str, gpu: int, instance: int, compute: int | None
) -> list[MigCapability]:
    numbers = _access(root, f"{directory}/access")
    if numbers is None:
        return []
    return [
        MigCapability(
            gpu_minor=gpu,
            gpu_instance=instance,
            compute_instance=compute,
            device_minor=numbers[0],
            file_mode=numbers[1],
        )
    ]


def _access(root: Root, path: str) -> tuple[int, int] | None:
    """Return minor and mode of the node of a capability file; None if the file has no minor."""
    try:
        text = root.read_text(path)
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    minor = _device_number(values.get("DeviceFileMinor", "").strip())
    mode = values.get("DeviceFileMode", "").strip()
    return None if minor is None else (minor, int(mode) & 0o777 if mode.isdecimal() else 0o444)


def _device_number(text: str) -> int | None:
    """Return a minor number, which has 20 bits in the kernel (MINORBITS); None if invalid."""
    return int(text) if text.isdecimal() and len(text) <= 7 else None
