# SPDX-License-Identifier: Apache-2.0
"""Whether an inventory can be that of a host: it may come from a file that a person edited.

``host`` makes sound inventories only. From any other, an engine could read a path or a number of
the spec as something else than was meant, or refuse the spec as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base import versions
from cdi_gen.cdi import names
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.generate.naming import in_cdi
from cdi_gen.inventory import CharDevice, DriverFile, Gpu, Inventory, MigDevice
from cdi_gen.paths import is_safe

_UINT32 = 1 << 32


def require(inventory: Inventory) -> None:
    """Check what goes into a spec.

    Raises:
        CdiGenError: something in it cannot be; the message says what, and where.
    """
    for problem in _problems(inventory):
        raise CdiGenError(
            f"the inventory is not sound: {problem}", hint="make it with: cdi-gen inventory"
        )


def require_directories(directories: tuple[str, ...]) -> None:
    """Check directories of the container that somebody named.

    Raises:
        UsageError: there is none, or one is no absolute path in its plainest form.
    """
    if not directories:
        raise UsageError("no directory for the libraries in the container")
    for directory in directories:
        for problem in _path("the directory for libraries", directory):
            raise UsageError(problem)


def _problems(inventory: Inventory) -> Iterator[str]:
    for where, root in ((".driverRoot", inventory.driver_root), (".devRoot", inventory.dev_root)):
        if root != "/":
            yield from _path(where, root)
    yield from _name(".architecture", inventory.architecture)
    yield from _name(".driver.version", inventory.driver.version)
    if inventory.driver.cuda_version is not None:
        yield from _version(".driver.cudaVersion", inventory.driver.cuda_version)
    for position, gpu in enumerate(inventory.gpus):
        yield from _gpu(f".gpus[{position}]", gpu)
    indices = {gpu.index for gpu in inventory.gpus}
    for position, device in enumerate(inventory.mig_devices):
        yield from _mig_device(f".migDevices[{position}]", device)
        if device.gpu_index not in indices:
            yield f".migDevices[{position}] is of GPU {device.gpu_index}, and there is none"
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


def _files(where: str, files: tuple[DriverFile, ...]) -> Iterator[str]:
    for position, file in enumerate(files):
        yield from _path(f"{where}[{position}].path", file.path)
        yield from _path(f"{where}[{position}].seenAt", file.seen_at)


def _transports(inventory: Inventory) -> Iterator[str]:
    for position, node in enumerate(inventory.transport_nodes):
        yield from _node(f".transportNodes[{position}]", node)
    yield from _files(".transportFiles", inventory.transport_files)


def _gpu(where: str, gpu: Gpu) -> Iterator[str]:
    yield from _number(f"{where}.index", gpu.index)
    if gpu.uuid is not None:
        yield from _device_name(f"{where}.uuid", gpu.uuid)
    yield from _device_name(f"{where}.pciAddress", gpu.pci_address)
    if gpu.compute_capability is not None:
        yield from _version(f"{where}.computeCapability", gpu.compute_capability)
    if gpu.brand is not None and not (gpu.brand.isascii() and gpu.brand.isalpha()):
        yield f"{where}.brand is {gpu.brand!r}"
    for node in (gpu.node, *gpu.drm_nodes):
        yield from _node(where, node)


def _mig_device(where: str, device: MigDevice) -> Iterator[str]:
    yield from _number(f"{where}.gpuIndex", device.gpu_index)
    yield from _number(f"{where}.index", device.index)
    if device.uuid is not None:
        yield from _device_name(f"{where}.uuid", in_cdi(device.uuid))
    for node in (device.gpu_instance_cap, device.compute_instance_cap):
        yield from _node(where, node)


def _node(where: str, node: CharDevice) -> Iterator[str]:
    yield from _path(f"{where}: a node's path", node.path)
    for number in (node.major, node.minor, node.gid):
        yield from _number(f"{where}: a number of {node.path}", number)
    if not 0 <= node.file_mode <= 0o7777:
        yield f"{where}: the mode of {node.path} is {node.file_mode}"


def _path(where: str, path: str) -> Iterator[str]:
    parts = path.split("/")
    if (
        parts[0]
        or len(parts) < 2
        or not path.isprintable()
        or not {"", ".", ".."}.isdisjoint(parts[1:])
    ):
        yield f"{where} is {path!r}, not an absolute path in its plainest form"


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
    try:
        names.check_device(name)
    except names.BadNameError as error:
        yield f"{where}: {error}"
