# SPDX-License-Identifier: Apache-2.0
"""Prints the summary of ``cdi-gen generate``: the spec, and the devices and files left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_gen.cdi.model import Spec
from cdi_gen.cli import console
from cdi_gen.generate.driver_tree import CURRENT
from cdi_gen.generate.options import TREE, Options
from cdi_gen.inventory import Inventory, Missing, StaleNode, UnusableDevice

if TYPE_CHECKING:
    from cdi_gen.generate.modes.mode import Mode


def print_summary(
    mode: Mode,
    inventory: Inventory,
    spec: Spec,
    output: str | None,
    options: Options,
    *,
    dry_run: bool,
) -> None:
    """Print a line about the spec; for a spec with GPUs also what is missing or left out."""
    location = f" in {output}" if output else ""
    prefix = "dry run, nothing written: " if dry_run else ""
    console.note(f"{prefix}{spec.kind}{location}: {mode.summary(spec, inventory, options)}")
    if options.form == TREE:
        console.note(
            f"the spec mounts {CURRENT}, which this command does not make, and which is gone after "
            "a reboot; to make it: sudo cdi-gen refresh --form tree",
            code="CDG-G105",
        )
    if not mode.transports:
        print_findings(inventory, hooks=options.hooks)


def print_findings(inventory: Inventory, *, hooks: bool) -> None:
    """Print what is missing or left out; with ``hooks``, also that no hook program is installed."""
    if hooks and inventory.hook is None:
        console.note(
            "no hook program is installed, so the spec has no hooks; for the consequences: "
            "cdi-gen explain CDG-G103; to install the hook: sudo cdi-gen hook install",
            code="CDG-G103",
        )
    records: list[UnusableDevice | StaleNode | Missing] = [
        *inventory.unusable_devices,
        *inventory.stale_nodes,
    ]
    if console.is_debug():
        records += inventory.missing
    elif inventory.missing:
        names = ", ".join(missing.name for missing in inventory.missing)
        console.note(f"the host lacks {names} (for the reasons use --explain)")
    if records:
        from cdi_gen.inventory.findings import finding  # noqa: PLC0415 - most hosts have none

        for record in records:
            console.report(finding(record))
