# SPDX-License-Identifier: Apache-2.0
"""Explains a spec: for each file and device, whether the spec has it, and why."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.errors import printable, with_code
from cdi_gen.catalogue import Catalogue, catalogue
from cdi_gen.generate.driver_edits import require_dgpu
from cdi_gen.generate.options import Options
from cdi_gen.generate.selection import (
    file_capabilities,
    library_serves,
    node_capabilities,
    select,
    serves,
    stem,
    why_absent,
)
from cdi_gen.inventory import Gpu, Inventory, Library

NO_MIG_DEVICE = "and the GPU has no MIG device"

Row = tuple[str, str, str]
"""(``taken``, ``left``, ``stale`` or ``missing``; path or name; reason, with a finding's code)."""


def rows(inventory: Inventory, options: Options) -> Iterator[Row]:
    """Yield a row for every file, device and record of the inventory, in its order.

    Raises:
        CdiGenError: this version does not support the inventory's platform.
    """
    require_dgpu(inventory)
    driver_catalogue = catalogue()
    wanted = driver_catalogue.select(options.capabilities)
    selection = select(inventory, driver_catalogue, options)
    for library in inventory.libraries:
        taken = library in selection.libraries
        reason = _library_reason(library, driver_catalogue, wanted, taken=taken)
        yield _verdict(taken), library.path, reason
    for file in inventory.files:
        capabilities = file_capabilities(file, driver_catalogue)
        yield _verdict(serves(capabilities, wanted)), file.path, _serves(capabilities)
    for node in inventory.control_nodes:
        reason = _serves(node_capabilities(node, driver_catalogue))
        taken = node in selection.control_nodes
        if not node.present and not taken:
            reason += f": {why_absent(node, inventory, driver_catalogue, options)}"
        yield _verdict(taken), node.path, reason
    for gpu in inventory.gpus:
        reason = f"GPU {gpu.index}, {gpu.model}"
        yield (
            _verdict(not gpu.mig_enabled),
            gpu.nodes[0].path if gpu.nodes else str(gpu.index),
            reason + (f": {_divided(gpu, inventory)}" if gpu.mig_enabled else ""),
        )
    for device in inventory.mig_devices:
        yield "taken", f"{device.gpu_index}:{device.index}", f"MIG device {device.profile}"
    for stale in inventory.stale_nodes:
        yield "stale", stale.path, with_code(stale.reason, stale.code)
    for unusable in inventory.unusable_devices:
        yield "left", unusable.device, with_code(unusable.reason, unusable.code)
    for ignored in inventory.ignored:
        yield "left", ignored.path, with_code(ignored.reason, ignored.code)
    for missing in inventory.missing:
        yield "missing", missing.name, with_code(missing.reason, missing.code)


def _divided(gpu: Gpu, inventory: Inventory) -> str:
    has_parts = any(device.gpu_index == gpu.index for device in inventory.mig_devices)
    return "MIG is enabled, " + ("its MIG devices are taken" if has_parts else NO_MIG_DEVICE)


def table(inventory: Inventory, options: Options) -> str:
    """Return the rows as aligned text."""
    all_rows = [
        (verdict, printable(subject), printable(reason))
        for verdict, subject, reason in rows(inventory, options)
    ]
    width = max((len(subject) for _, subject, _ in all_rows), default=0)
    return "".join(
        f"{verdict:8}{subject:{width}}  {reason}\n" for verdict, subject, reason in all_rows
    )


def _verdict(taken: bool) -> str:
    return "taken" if taken else "left"


def _serves(capabilities: frozenset[str]) -> str:
    return "serves every capability" if "*" in capabilities else _list(capabilities)


def _list(capabilities: frozenset[str]) -> str:
    return "serves " + ", ".join(sorted(capabilities))


def _library_reason(
    library: Library, driver_catalogue: Catalogue, wanted: frozenset[str], *, taken: bool
) -> str:
    capabilities = driver_catalogue.libraries.get(stem(library))
    reason = _list(capabilities) if capabilities else "of this driver version, not in the catalogue"
    if library.bits == 32 and not taken:
        advice = "32-bit: only with --capabilities all,compat32"
        reason = with_code(f"{reason} ({advice})", "CDG-G106")
    elif library.bits == 32:
        reason += " (32-bit: compat32)"
    if taken and not library_serves(library, driver_catalogue, wanted):
        reason += "; another library that is taken needs it"
    return reason
