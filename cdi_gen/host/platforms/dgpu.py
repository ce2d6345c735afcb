# SPDX-License-Identifier: Apache-2.0
"""The NVIDIA driver for Linux, of discrete GPUs and of some integrated GPUs (GB10)."""

from __future__ import annotations

import os
from dataclasses import replace

from cdi_gen.catalogue import Catalogue, catalogue
from cdi_gen.host import boot, hook_program
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.gpus import Gpus, GpuSearch
from cdi_gen.host.devices.mig_access import mig_access
from cdi_gen.host.devices.nodes import NODE_CODES, DeviceNodes
from cdi_gen.host.driver.installed import InstalledDriver, installed_driver, open_path
from cdi_gen.host.result import SearchResult, by_kind
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where
from cdi_gen.inventory import DGPU, Driver, Inventory, Library


def detect(host: Root) -> str | None:
    """Return the loaded kernel module as evidence; None if it is not loaded."""
    module = proc.kernel_module(host)
    return f"the kernel module nvidia {module.version} is loaded" if module else None


def gather(roots: Roots, where: Where) -> Inventory:
    """Return the inventory: the loaded module's libraries and files, and its devices.

    Raises:
        LibrariesNotInstalledError: no library of the module's driver is installed.
        CdiGenError: the libraries are of another architecture, or cannot be used.
    """
    module = proc.kernel_module(roots.host)
    assert module is not None  # noqa: S101 - it was detected
    installed = installed_driver(roots, where, module, catalogue())
    libraries = installed.values.libraries
    nodes = DeviceNodes(
        roots.host, roots.dev, proc.majors(roots.host), _served(catalogue(), installed.values)
    )
    gpus = _gpus(roots, where, nodes, libraries)
    control_nodes = nodes.control(catalogue().control_nodes)
    records = by_kind((*installed.records, *gpus.records, *control_nodes.records))
    lacks_node = any(missing.code in NODE_CODES for missing in records["missing"])
    cuda_version = _cuda_version(roots.driver, libraries) if where.requirement_facts else None
    inventory = Inventory(
        platform=DGPU,
        architecture=module.architecture or os.uname().machine,
        driver_root=roots.driver.name,
        dev_root=roots.dev.name,
        driver=Driver(
            version=module.version,
            kernel_module=module.kind,
            library_version=installed.values.version,
            cuda_version=cuda_version,
        ),
        gpus=gpus.values.gpus,
        mig_devices=gpus.values.mig_devices,
        control_nodes=control_nodes.values,
        libraries=tuple(libraries),
        files=tuple(installed.values.files),
        hook=hook_program.find(roots.host, where.hook_path),
        engines_make_nodes=boot.engines_make_nodes(roots.host),
        booting=lacks_node and not boot.is_over(roots.host),
        **records,
    )
    return _with_transports(inventory, roots, nodes) if where.transports else inventory


def _served(catalogue: Catalogue, driver: InstalledDriver) -> frozenset[str]:
    """Return the capabilities that have a library of their own among the installed ones."""
    capabilities = (catalogue.libraries.get(stem, frozenset()) for stem in driver.stems)
    return frozenset(name for names in capabilities if len(names) == 1 for name in names)


def _gpus(
    roots: Roots, where: Where, nodes: DeviceNodes, libraries: list[Library]
) -> SearchResult[Gpus]:
    nvml = open_path(roots.driver, libraries, "libnvidia-ml.so.") if where.nvml else None
    return GpuSearch(roots.host, nodes, nvml, requirement_facts=where.requirement_facts).find()


def _with_transports(inventory: Inventory, roots: Roots, nodes: DeviceNodes) -> Inventory:
    from cdi_gen.host.devices.transports import TransportSearch  # noqa: PLC0415 - rarely needed

    driver, host = roots.driver, roots.host
    in_order = (driver,) if driver.name == host.name else (driver, host)
    transports = TransportSearch(nodes, in_order).find(catalogue().transports)
    records = by_kind(transports.records)
    return replace(
        inventory,
        mig_config=mig_access(host, nodes, "config"),
        mig_monitor=mig_access(host, nodes, "monitor"),
        transport_nodes=transports.values.nodes,
        transport_files=transports.values.files,
        missing=(*inventory.missing, *records["missing"]),
        stale_nodes=(*inventory.stale_nodes, *records["stale_nodes"]),
        ignored=(*inventory.ignored, *records["ignored"]),
    )


def _cuda_version(driver_root: Root, libraries: list[Library]) -> str | None:
    from cdi_gen.host.driver import libcuda  # noqa: PLC0415 - rarely needed

    library = open_path(driver_root, libraries, "libcuda.so.")
    return None if library is None else libcuda.newest_version(library)
