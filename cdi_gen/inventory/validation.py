# SPDX-License-Identifier: Apache-2.0
"""Validates an inventory, which may have been edited by hand.

``cdi_gen.host`` returns valid inventories only. An engine could reject the spec of an invalid
inventory, or misread a path or a number of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base import nvidia, versions
from cdi_base.cdi import names
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import (
    DGPU,
    PLATFORMS,
    TEGRA,
    VFIO,
    WSL,
    CharDevice,
    Driver,
    DriverFile,
    Gpu,
    Inventory,
    MigDevice,
)
from cdi_gen.paths import beneath, is_safe

_UINT32 = 1 << 32

REQUIRED_OF_GPUS = {
    DGPU: (("minor", "minor"), ("pci_address", "pciAddress"), ("nodes", "nodes")),
    WSL: (),
    TEGRA: (("nodes", "nodes"),),
    VFIO: (("pci_address", "pciAddress"), ("iommu_group", "iommuGroup"), ("nodes", "nodes")),
}
"""(field, key in the JSON form) of what every GPU of a platform has."""


def require(inventory: Inventory) -> None:
    """Reject an inventory that no host can have.

    Raises:
        CdiGenError: the inventory is invalid; the message names the fact and its JSON key.
    """
    for problem in _problems(inventory):
        raise CdiGenError(
            f"the inventory is invalid: {problem}",
            hint="create an inventory with: cdi-gen inventory",
            code="CDG-I101",
        )


def _problems(inventory: Inventory) -> Iterator[str]:
    if inventory.platform not in PLATFORMS:
        yield f".platform is {inventory.platform!r}, not one of {', '.join(PLATFORMS)}"
        return
    for location, root in (
        (".driverRoot", inventory.driver_root),
        (".devRoot", inventory.dev_root),
    ):
        if root != "/":
            yield from _path(location, root)
    yield from _name(".architecture", inventory.architecture)
    yield from _driver(inventory.platform, inventory.driver)
    for position, gpu in enumerate(inventory.gpus):
        yield from _gpu(f".gpus[{position}]", gpu, inventory.platform)
    indices = {gpu.index for gpu in inventory.gpus}
    for position, device in enumerate(inventory.mig_devices):
        yield from _mig_device(f".migDevices[{position}]", device)
        if device.gpu_index not in indices:
            yield f".migDevices[{position}] is of GPU {device.gpu_index}, which is missing"
    yield from _mig_access(inventory)
    for position, node in enumerate(inventory.control_nodes):
        yield from _node(f".controlNodes[{position}]", node)
    for position, library in enumerate(inventory.libraries):
        location = f".libraries[{position}]"
        yield from _file_path(f"{location}.path", library.path, inventory.driver_root)
        if library.bits not in {32, 64}:
            yield f"{location}.bits is {library.bits}, not 32 or 64"
        for name in (library.soname, *library.links):
            yield from _name(f"{location}: a name", name)
        for alias in library.aliases:
            yield from _file_path(f"{location}: an alias", alias, "/")
    yield from _files(".files", inventory.files, inventory.driver_root)
    yield from _transports(inventory)
    if inventory.hook:
        yield from _path(".hook.path", inventory.hook.path)


def _driver(platform: str, driver: Driver | None) -> Iterator[str]:
    if driver is None:
        if platform != VFIO:
            yield f".driver is missing; the platform {platform} has one"
        return
    yield from _name(".driver.version", driver.version)
    if driver.cuda_version is not None:
        yield from _version(".driver.cudaVersion", driver.cuda_version)


def _files(location: str, files: tuple[DriverFile, ...], driver_root: str) -> Iterator[str]:
    for position, file in enumerate(files):
        yield from _file_path(f"{location}[{position}].path", file.path, driver_root)
        yield from _path(f"{location}[{position}].seenAt", file.seen_at)


def _mig_access(inventory: Inventory) -> Iterator[str]:
    for key, node in (("migConfig", inventory.mig_config), ("migMonitor", inventory.mig_monitor)):
        if node is not None:
            yield from _node(f".{key}", node)


def _transports(inventory: Inventory) -> Iterator[str]:
    for position, node in enumerate(inventory.transport_nodes):
        yield from _node(f".transportNodes[{position}]", node)
    yield from _files(".transportFiles", inventory.transport_files, inventory.driver_root)


def _gpu(location: str, gpu: Gpu, platform: str) -> Iterator[str]:
    for field, key in REQUIRED_OF_GPUS[platform]:
        if getattr(gpu, field) in (None, ()):
            yield f"{location}.{key} is missing; every GPU of the platform {platform} has it"
    yield from _number(f"{location}.index", gpu.index)
    for key, number in (("minor", gpu.minor), ("iommuGroup", gpu.iommu_group)):
        if number is not None:
            yield from _number(f"{location}.{key}", number)
    if gpu.uuid is not None:
        yield from _device_name(f"{location}.uuid", gpu.uuid)
    if gpu.pci_address is not None:
        yield from _device_name(f"{location}.pciAddress", gpu.pci_address)
        if nvidia.pci_address(gpu.pci_address) is None:
            yield f"{location}.pciAddress is {gpu.pci_address!r}, not a PCI address"
    if gpu.compute_capability is not None:
        yield from _version(f"{location}.computeCapability", gpu.compute_capability)
    if gpu.brand is not None and not (gpu.brand.isascii() and gpu.brand.isalpha()):
        yield f"{location}.brand is {gpu.brand!r}, not a word of ASCII letters"
    for node in (*gpu.nodes, *gpu.drm_nodes):
        yield from _node(location, node)


def _mig_device(location: str, device: MigDevice) -> Iterator[str]:
    yield from _number(f"{location}.gpuIndex", device.gpu_index)
    for key, number in (
        ("index", device.index),
        ("gpuInstance", device.gpu_instance),
        ("computeInstance", device.compute_instance),
    ):
        yield from _number(f"{location}.{key}", number)
    if device.uuid is not None:
        yield from _device_name(f"{location}.uuid", nvidia.cdi_name(device.uuid))
    for node in (device.gpu_instance_cap, device.compute_instance_cap):
        yield from _node(location, node)


def _node(location: str, node: CharDevice) -> Iterator[str]:
    yield from _path(f"{location}: a node's path", node.path)
    for number in (node.major, node.minor, node.gid):
        yield from _number(f"{location}: a number of {node.path}", number)
    if node.major == 0:  # Linux has no devices with this number; runc rejects such a spec
        yield f"{location}: the major number of {node.path} is 0"
    if not 0 <= node.file_mode <= 0o7777:
        yield f"{location}: the mode of {node.path} is {node.file_mode}, not a file mode"


def _path(location: str, path: str) -> Iterator[str]:
    if not is_plain_path(path):
        yield f"{location} is {path!r}, not an absolute path without empty parts, '.' and '..'"


def _file_path(location: str, path: str, driver_root: str) -> Iterator[str]:
    """Yield what is wrong with the path of a driver file, whose name the hook's options contain."""
    yield from _path(location, path)
    if not is_safe(beneath(path, driver_root) or path):
        yield f"{location} is {path!r}, which has a character or a length that no spec may have"


def is_plain_path(path: str) -> bool:
    """Whether a path is absolute, printable, and without empty components, ``.`` and ``..``."""
    parts = path.split("/")
    return (
        not parts[0]
        and len(parts) > 1
        and path.isprintable()
        and {"", ".", ".."}.isdisjoint(parts[1:])
    )


def _name(location: str, name: str) -> Iterator[str]:
    if not name or "/" in name or name in (".", "..") or not is_safe(name):
        yield f"{location} is {name!r}, not a valid file name"


def _version(location: str, version: str) -> Iterator[str]:
    if versions.parse(version) is None:
        yield f"{location} is {version!r}, not a version"


def _number(location: str, number: int) -> Iterator[str]:
    if not 0 <= number < _UINT32:
        yield f"{location} is not a number from 0 to {_UINT32 - 1}"


def _device_name(location: str, name: str) -> Iterator[str]:
    fault = names.fault_of_device(name)
    if fault:
        yield f"{location}: {fault}"
