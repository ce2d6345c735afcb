# SPDX-License-Identifier: Apache-2.0
"""What ``cdi-gen generate`` says on standard error of what it made, and of what it left out."""

from __future__ import annotations

from cdi_gen.cdi.model import Spec
from cdi_gen.cli import console
from cdi_gen.generate import count
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory


def nodes(spec: Spec, output: str | None, *, dry_run: bool) -> None:
    """Say in one line what the spec of a transport has."""
    edits = [device.container_edits for device in spec.devices]
    number = len({node.path for each in edits for node in each.device_nodes})
    what = f"{number} device node{'s' if number != 1 else ''}"
    console.note(f"{_done(spec, output, dry_run=dry_run)}: {what}, CDI {spec.cdi_version}")


def _done(spec: Spec, output: str | None, *, dry_run: bool) -> str:
    place = f" in {output}" if output else ""
    return f"{'dry run, nothing written: ' if dry_run else ''}{spec.kind}{place}"


def gpus(
    mode: str,
    inventory: Inventory,
    spec: Spec,
    output: str | None,
    options: Options,
    *,
    dry_run: bool,
) -> None:
    """Say in one line what was done, and once what is not as it should be."""
    if mode == "cap":
        devices = f"the capabilities {', '.join(device.name for device in spec.devices)}"
    else:
        whole, parts = count(inventory, options)
        counts = [(whole, "GPU"), (parts, "MIG device")]
        devices = ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts if n) or "no GPU"
    processes = len(spec.container_edits.hooks)
    hooks = {0: "no hook", 1: "one hook"}.get(processes, f"{processes} hooks")
    console.note(
        f"{_done(spec, output, dry_run=dry_run)}: {devices}, driver {inventory.driver.version}, "
        f"CDI {spec.cdi_version}, {hooks}"
    )
    if options.hooks and inventory.hook is None:
        console.note(
            "no hook program is installed, so the spec does without; docs/hooks.md says what that "
            "means, and this installs it: sudo cdi-gen hook install"
        )
    for skipped in inventory.skipped:
        console.warning(f"left out: {skipped.device}: {skipped.reason}")
    for stale in inventory.stale:
        console.warning(f"{stale.path} {stale.reason}")
    if inventory.missing:
        names = ", ".join(each.name for each in inventory.missing)
        if console.is_debug():
            for each in inventory.missing:
                console.note(f"missing: {each.name}: {each.reason}")
        else:
            console.note(f"the host lacks {names} (why: add --explain)")
