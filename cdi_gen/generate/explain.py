# SPDX-License-Identifier: Apache-2.0
"""For each file of the driver: taken or left, why, and from where."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.errors import with_code
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

NO_MIG_DEVICE = "and it has no MIG device"

Row = tuple[str, str, str]
"""(taken, left, stale or missing; what; why, with the code of a finding at its end)."""


def rows(inventory: Inventory, options: Options) -> Iterator[Row]:
    """Everything that was looked at, in the inventory's order.

    Raises:
        CdiGenError: no mode of this version serves the inventory's platform.
    """
    require_dgpu(inventory)
    known = catalogue()
    wanted = known.select(options.capabilities)
    selection = select(inventory, known, options)
    for library in inventory.libraries:
        taken = library in selection.libraries
        yield _verdict(taken), library.path, _library_reason(library, known, wanted, taken=taken)
    for file in inventory.files:
        found = file_capabilities(file, known)
        yield _verdict(serves(found, wanted)), file.path, _serves(found)
    for node in inventory.control_nodes:
        reason = _serves(node_capabilities(node, known))
        taken = node in selection.control_nodes
        if not node.present and not taken:
            reason += f": {why_absent(node, inventory, known, options)}"
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
    for skipped in inventory.unusable_devices:
        yield "left", skipped.device, with_code(skipped.reason, skipped.code)
    for left in inventory.ignored:
        yield "left", left.path, with_code(left.reason, left.code)
    for missing in inventory.missing:
        yield "missing", missing.name, with_code(missing.reason, missing.code)


def _divided(gpu: Gpu, inventory: Inventory) -> str:
    has_parts = any(each.gpu_index == gpu.index for each in inventory.mig_devices)
    return "MIG is enabled, " + ("its MIG devices are taken" if has_parts else NO_MIG_DEVICE)


def table(inventory: Inventory, options: Options) -> str:
    """The rows as aligned text."""
    found = list(rows(inventory, options))
    width = max((len(what) for _, what, _ in found), default=0)
    return "".join(f"{verdict:8}{what:{width}}  {why}\n" for verdict, what, why in found)


def _verdict(taken: bool) -> str:
    return "taken" if taken else "left"


def _serves(capabilities: frozenset[str]) -> str:
    return "serves every capability" if "*" in capabilities else _list(capabilities)


def _list(capabilities: frozenset[str]) -> str:
    return "serves " + ", ".join(sorted(capabilities))


def _library_reason(
    library: Library, known: Catalogue, wanted: frozenset[str], *, taken: bool
) -> str:
    listed = known.libraries.get(stem(library))
    reason = _list(listed) if listed else "of this driver version, not in the catalogue"
    if library.bits == 32:
        reason += " (32-bit: compat32)"
    if taken and not library_serves(library, known, wanted):
        reason += "; another library that is taken needs it"
    return reason
