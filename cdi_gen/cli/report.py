# SPDX-License-Identifier: Apache-2.0
"""What ``cdi-gen generate`` says on standard error of what it made, and of what it left out."""

from __future__ import annotations

from cdi_gen.cdi.model import Spec
from cdi_gen.cli import console
from cdi_gen.generate.modes import Mode
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory


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
            "means, and this installs it: sudo cdi-gen hook install"
        )
    for skipped in inventory.skipped:
        console.warning(f"left out: {skipped.device}: {skipped.reason}", code=skipped.code)
    for stale in inventory.stale:
        console.warning(f"{stale.path} {stale.reason}", code=stale.code)
    if inventory.missing:
        names = ", ".join(each.name for each in inventory.missing)
        if console.is_debug():
            for each in inventory.missing:
                console.note(f"missing: {each.name}: {each.reason}")
        else:
            console.note(f"the host lacks {names} (why: add --explain)")
