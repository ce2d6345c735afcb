# SPDX-License-Identifier: Apache-2.0
"""Validates an inventory, which may have been edited by hand.

``host`` returns valid inventories only. From any other, an engine could read a path or a number of
the spec as something else than was meant, or reject the whole spec.
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
from cdi_gen.paths import is_safe

_UINT32 = 1 << 32

REQUIRED_OF_GPUS = {
    DGPU: (("minor", "minor"), ("pci_address", "pciAddress"), ("nodes", "nodes")),
    WSL: (),
    TEGRA: (("nodes", "nodes"),),
    VFIO: (("pci_address", "pciAddress"), ("iommu_group", "iommuGroup"), ("nodes", "nodes")),
}
"""What every GPU of a platform has: the field, and its key in the JSON form."""


def require(inventory: Inventory) -> None:
    """Reject an inventory that no host can have.

    Raises:
        CdiGenError: the message says which fact, and where it is in the JSON form.
    """
    for problem in _problems(inventory):
        raise CdiGenError(
            f"the inventory is not sound: {problem}",
            hint="make it with: cdi-gen inventory",
            code="CDG-I101",
        )


def _problems(inventory: Inventory) -> Iterator[str]:
    if inventory.platform not in PLATFORMS:
        yield f".platform is {inventory.platform!r}, none of {', '.join(PLATFORMS)}"
        return
    for where, root in ((".driverRoot", inventory.driver_root), (".devRoot", inventory.dev_root)):
        if root != "/":
            yield from _path(where, root)
    yield from _name(".architecture", inventory.architecture)
    yield from _driver(inventory.platform, inventory.driver)
    for position, gpu in enumerate(inventory.gpus):
        yield from _gpu(f".gpus[{position}]", gpu, inventory.platform)
    indices = {gpu.index for gpu in inventory.gpus}
    for position, device in enumerate(inventory.mig_devices):
        yield from _mig_device(f".migDevices[{position}]", device)
        if device.gpu_index not in indices:
            yield f".migDevices[{position}] is of GPU {device.gpu_index}, and there is none"
    yield from _mig_access(inventory)
    for position, node in enumerate(inventory.control_nodes):
        yield from _node(f".controlNodes[{position}]", node)
    for position, library in enumerate(inventory.libraries):
        where = f".libraries[{position}]"
        yield from _path(f"{where}.path", library.path)
        for name in (library.soname, *library.links):
            yield from _name(f"{where}: a name", name)
        for alias in library.aliases:
            yield from _path(f"{where}: an alias", alias)
    yield from _files(".files", inventory.files)
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


def _files(where: str, files: tuple[DriverFile, ...]) -> Iterator[str]:
    for position, file in enumerate(files):
        yield from _path(f"{where}[{position}].path", file.path)
        yield from _path(f"{where}[{position}].seenAt", file.seen_at)


def _mig_access(inventory: Inventory) -> Iterator[str]:
    for key, node in (("migConfig", inventory.mig_config), ("migMonitor", inventory.mig_monitor)):
        if node is not None:
            yield from _node(f".{key}", node)


def _transports(inventory: Inventory) -> Iterator[str]:
    for position, node in enumerate(inventory.transport_nodes):
        yield from _node(f".transportNodes[{position}]", node)
    yield from _files(".transportFiles", inventory.transport_files)


def _gpu(where: str, gpu: Gpu, platform: str) -> Iterator[str]:
    for field, key in REQUIRED_OF_GPUS[platform]:
        if getattr(gpu, field) in (None, ()):
            yield f"{where}.{key} is missing; every GPU of the platform {platform} has it"
    yield from _number(f"{where}.index", gpu.index)
    for key, number in (("minor", gpu.minor), ("iommuGroup", gpu.iommu_group)):
        if number is not None:
            yield from _number(f"{where}.{key}", number)
    if gpu.uuid is not None:
        yield from _device_name(f"{where}.uuid", gpu.uuid)
    if gpu.pci_address is not None:
        yield from _device_name(f"{where}.pciAddress", gpu.pci_address)
    if gpu.compute_capability is not None:
        yield from _version(f"{where}.computeCapability", gpu.compute_capability)
    if gpu.brand is not None and not (gpu.brand.isascii() and gpu.brand.isalpha()):
        yield f"{where}.brand is {gpu.brand!r}"
    for node in (*gpu.nodes, *gpu.drm_nodes):
        yield from _node(where, node)


def _mig_device(where: str, device: MigDevice) -> Iterator[str]:
    yield from _number(f"{where}.gpuIndex", device.gpu_index)
    yield from _number(f"{where}.index", device.index)
    if device.uuid is not None:
        yield from _device_name(f"{where}.uuid", nvidia.cdi_name(device.uuid))
    for node in (device.gpu_instance_cap, device.compute_instance_cap):
        yield from _node(where, node)


def _node(where: str, node: CharDevice) -> Iterator[str]:
    yield from _path(f"{where}: a node's path", node.path)
    for number in (node.major, node.minor, node.gid):
        yield from _number(f"{where}: a number of {node.path}", number)
    if not 0 <= node.file_mode <= 0o7777:
        yield f"{where}: the mode of {node.path} is {node.file_mode}"


def _path(where: str, path: str) -> Iterator[str]:
    if not is_plain_path(path):
        yield f"{where} is {path!r}, not an absolute path in its plainest form"


def is_plain_path(path: str) -> bool:
    """Whether a path is absolute, printable, and without empty components, ``.`` and ``..``."""
    parts = path.split("/")
    return (
        not parts[0]
        and len(parts) > 1
        and path.isprintable()
        and {"", ".", ".."}.isdisjoint(parts[1:])
    )


def _name(where: str, name: str) -> Iterator[str]:
    if not name or "/" in name or name in (".", "..") or not is_safe(name):
        yield f"{where} is {name!r}"


def _version(where: str, version: str) -> Iterator[str]:
    if versions.parse(version) is None:
        yield f"{where} is {version!r}"


def _number(where: str, number: int) -> Iterator[str]:
    if not 0 <= number < _UINT32:
        yield f"{where} is not a number from 0 to {_UINT32 - 1}"


def _device_name(where: str, name: str) -> Iterator[str]:
    fault = names.fault_of_device(name)
    if fault:
        yield f"{where}: {fault}"
