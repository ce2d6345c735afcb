# SPDX-License-Identifier: Apache-2.0
"""Reads the properties of GPUs that a scheduler chooses by, from sysfs and NVML."""

from __future__ import annotations

from cdi_base.files import read_beginning
from cdi_gen.host.devices import nvml_properties, vgpu
from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.host.devices.nvml_properties import NvmlProperties
from cdi_gen.host.devices.passthrough import NVIDIA, PCI_DEVICES, addressable_memory
from cdi_gen.host.devices.vgpu import HostDriver
from cdi_gen.host.driver.installed import open_path
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots
from cdi_gen.inventory import VFIO, Gpu, Inventory
from cdi_gen.inventory.properties import GpuProperties, Properties

MACHINE = "/sys/class/dmi/id/product_name"


def read_properties(
    inventory: Inventory, roots: Roots, answers: nvml_properties.Answers | None = None
) -> Properties:
    """Return the properties of the GPUs in the inventory; what cannot be read is None.

    Args:
        inventory: the GPUs.
        roots: where the host's files are.
        answers: the properties that sysfs does not have; None: ask NVML.
    """
    if answers is None:
        answers = _ask_nvml(inventory, roots)
    is_vgpu, host_driver = _vgpu(roots.host)
    return Properties(
        gpus=tuple(
            _gpu(
                gpu,
                roots.host,
                answers.gpus.get(gpu.index, NvmlProperties()),
                passed_through=inventory.platform == VFIO,
            )
            for gpu in inventory.gpus
        ),
        mig_devices=answers.mig_devices,
        links=answers.links,
        cuda_version=answers.cuda_version,
        machine=_machine(roots.host),
        vgpu=is_vgpu,
        vgpu_host_driver_version=host_driver.version or None,
        vgpu_host_driver_branch=host_driver.branch or None,
    )


def _ask_nvml(inventory: Inventory, roots: Roots) -> nvml_properties.Answers:
    """Return NVML's answers; they are empty if NVML cannot be used."""
    library = open_path(roots.driver, inventory.libraries, "libnvidia-ml.so.")
    if not inventory.gpus or library is None:
        return nvml_properties.Answers()
    try:
        return nvml_properties.ask(library, inventory.gpus, inventory.mig_devices)
    except NvmlUnavailable:
        return nvml_properties.Answers()


def _gpu(gpu: Gpu, host: Root, answer: NvmlProperties, *, passed_through: bool) -> GpuProperties:
    addressable = (
        addressable_memory(host, gpu.pci_address) if passed_through and gpu.pci_address else None
    )
    numa_node = _number(host, gpu, "numa_node", 10)
    pci_class = _number(host, gpu, "class", 16)
    return GpuProperties(
        index=gpu.index,
        uuid=gpu.uuid,
        product=answer.product,
        memory_mib=answer.memory_mib,
        addressable_memory=addressable,
        compute_capability=answer.compute_capability or gpu.compute_capability,
        # The kernel writes -1 for a machine with one node.
        numa_node=None if numa_node is None or numa_node < 0 else numa_node,
        pci_class=None if pci_class is None else pci_class >> 8,
        fabric_cluster=answer.fabric_cluster,
        fabric_clique=answer.fabric_clique,
        mig_capable=gpu.mig_enabled if answer.mig_capable is None else answer.mig_capable,
    )


def _vgpu(host: Root) -> tuple[bool | None, HostDriver]:
    """Return whether an NVIDIA device is a vGPU, and the driver of its host.

    None: this process may not read the configuration space of a device.
    """
    host_drivers = []
    for entry in host.entries(PCI_DEVICES):
        directory = f"{PCI_DEVICES}/{entry.name}"
        if _integer(host, f"{directory}/vendor", 16) != NVIDIA:
            continue
        try:
            configuration = read_beginning(
                host.open_path(f"{directory}/config"), vgpu.CONFIGURATION_SIZE
            )
            host_drivers.append(vgpu.host_driver(configuration))
        except (OSError, vgpu.ConfigurationIncompleteError):
            return None, HostDriver()
    vgpus = [host_driver for host_driver in host_drivers if host_driver is not None]
    return bool(vgpus), max(vgpus, default=HostDriver())


def _machine(host: Root) -> str | None:
    try:
        return read_beginning(host.open_path(MACHINE), 256).decode("utf-8", "replace").strip()
    except OSError:
        return None


def _number(host: Root, gpu: Gpu, name: str, base: int) -> int | None:
    if gpu.pci_address is None:
        return None
    return _integer(host, f"{PCI_DEVICES}/{gpu.pci_address}/{name}", base)


def _integer(host: Root, path: str, base: int) -> int | None:
    try:
        return int(read_beginning(host.open_path(path), 64).decode("ascii"), base)
    except (OSError, ValueError):
        return None
