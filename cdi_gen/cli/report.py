# SPDX-License-Identifier: Apache-2.0
"""What ``cdi-gen generate`` says on standard error of what it made, and of what it left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_gen.cdi.model import Spec
from cdi_gen.cli import console
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory, Missing, StaleNode, UnusableDevice

if TYPE_CHECKING:
    from cdi_gen.generate.modes.mode import Mode


def written(
    mode: Mode,
    inventory: Inventory,
    spec: Spec,
    output: str | None,
    options: Options,
    *,
    dry_run: bool,
) -> None:
    """Say in one line what the spec has; of a spec with GPUs also what is missing or left out."""
    place = f" in {output}" if output else ""
    prefix = "dry run, nothing written: " if dry_run else ""
    console.note(f"{prefix}{spec.kind}{place}: {mode.summary(spec, inventory, options)}")
    if not mode.transports:
        _host(inventory, options)


def _host(inventory: Inventory, options: Options) -> None:
    if options.hooks and inventory.hook is None:
        console.note(
            "no hook program is installed, so the spec does without; docs/hooks.md says what that "
            "means, and this installs it: sudo cdi-gen hook install",
            code="CDG-G103",
        )
    printed: list[UnusableDevice | StaleNode | Missing] = [
        *inventory.unusable_devices,
        *inventory.stale_nodes,
    ]
    if console.is_debug():
        printed += inventory.missing
    elif inventory.missing:
        names = ", ".join(missing.name for missing in inventory.missing)
        console.note(f"the host lacks {names} (why: add --explain)")
    if printed:
        from cdi_gen.inventory.findings import finding  # noqa: PLC0415 - most hosts have none

        for record in printed:
            console.report(finding(record))
