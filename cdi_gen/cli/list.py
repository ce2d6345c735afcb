# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen list``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cdi_gen.cli import console
from cdi_gen.cli.host_options import (
    DIRECTORY,
    INVENTORY,
    TEXT,
    HostOptions,
    host_options,
    inventory_from,
)
from cdi_gen.cli.output import aligned, print_data
from cdi_gen.errors import ExitCode
from cdi_gen.generate import DEFAULTS
from cdi_gen.generate.device_nodes import gpu_nodes, mig_nodes
from cdi_gen.generate.driver_edits import require_dgpu
from cdi_gen.generate.naming import device_names
from cdi_gen.generate.options import ALL, NONE
from cdi_gen.inventory import CharDevice, Gpu, Inventory, MigDevice, validation

if TYPE_CHECKING:
    from cdi_gen.store import Resolution

COLUMNS = ("DEVICE", "INDEX", "MINOR", "UUID", "PCI ADDRESS", "MODEL", "MIG PROFILE")
WIDE = ("OTHER NAMES", "NODES")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A GPU or MIG device with its identifiers."""

    device: str
    index: str
    minor: int | None
    uuid: str
    pci_address: str
    model: str
    mig_profile: str
    names: tuple[str, ...]
    nodes: tuple[str, ...]


def device_rows(inventory: Inventory, kind: str) -> list[Row]:
    """Return the GPUs that can be used whole, then the MIG devices, in the inventory's order.

    Raises:
        CdiGenError: the inventory is invalid, or this version does not support its platform.
    """
    validation.require(inventory)
    require_dgpu(inventory)
    rows = [
        _row(kind, gpu, gpu, str(gpu.index), gpu_nodes(gpu))
        for gpu in inventory.gpus
        if not gpu.mig_enabled
    ]
    by_index = {gpu.index: gpu for gpu in inventory.gpus}
    for device in inventory.mig_devices:
        gpu = by_index[device.gpu_index]
        index = f"{device.gpu_index}:{device.index}"
        rows.append(_row(kind, device, gpu, index, mig_nodes(device, gpu)))
    return rows


def _row(
    kind: str, device: Gpu | MigDevice, gpu: Gpu, index: str, nodes: tuple[CharDevice, ...]
) -> Row:
    by_strategy = device_names(device)
    names = tuple(by_strategy[strategy] for strategy in DEFAULTS.names if strategy in by_strategy)
    return Row(
        device=f"{kind}={names[0]}",
        index=index,
        minor=gpu.minor,
        uuid=device.uuid or "",
        pci_address=gpu.pci_address or "",
        model=gpu.model,
        mig_profile="" if isinstance(device, Gpu) else device.profile,
        names=names,
        nodes=tuple(node.path for node in nodes),
    )


@click.command("list")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "wide", "json", "yaml", "name"]),
    default="table",
    show_default=True,
    help="Format of the output. name: every name that a container can request, one on each line.",
)
@INVENTORY
@click.option(
    "--vendor", default="nvidia.com", show_default=True, type=TEXT, help="Vendor of the CDI kind."
)
@click.option(
    "--class", "class_", default="gpu", show_default=True, type=TEXT, help="Class of the CDI kind."
)
@click.option(
    "--spec-dir",
    "spec_directories",
    multiple=True,
    type=DIRECTORY,
    envvar="NVIDIA_CTK_CDI_SPEC_DIRS",
    help="List the devices in the spec files of this directory, as engines resolve them; may be "
    "given several times.  [default: the devices of this host]",
)
@host_options
def command(
    host: HostOptions,
    /,
    *,
    form: str,
    inventory_path: str | None,
    vendor: str,
    class_: str,
    spec_directories: tuple[str, ...],
) -> int:
    """List the devices that a container can request, with their identifiers."""
    if spec_directories:
        return _list_specs(spec_directories, form)
    inventory = inventory_from(inventory_path, host)
    kind = f"{vendor}/{class_}"
    print_data(_text(device_rows(inventory, kind), form, kind))
    if inventory.unusable_devices:
        from cdi_gen.inventory.findings import finding  # noqa: PLC0415 - most hosts have none

        for device in inventory.unusable_devices:
            console.report(finding(device))
    return ExitCode.PARTIAL if inventory.unusable_devices else ExitCode.OK


def _list_specs(directories: tuple[str, ...], form: str) -> int:
    from cdi_gen import store  # noqa: PLC0415

    registry = store.read(directories)
    if not registry.files:
        console.warning(f"no spec file in {', '.join(directories)}", code="CDG-F105")
    for file in registry.files:
        for problem in file.problems:
            if problem.severity != "warning":
                console.report(problem.finding(file.path, "warning"))
    conflicts: dict[str, list[str]] = {}
    for device in registry.devices:
        if device.conflicting:
            files = ", ".join(file.path for file in device.conflicting)
            conflicts.setdefault(files, []).append(device.name)
    for files, names in conflicts.items():
        console.warning(
            f"engines cannot resolve {', '.join(names)}: {files} all define these devices",
            hint="remove all but one of these files",
            code="CDG-F102",
        )
    print_data(_resolutions(registry.devices, form))
    return ExitCode.OK


def _resolutions(devices: tuple[Resolution, ...], form: str) -> str:
    resolvable = [(device, device.file.path) for device in devices if device.file]
    if form == "name":
        return "".join(f"{device.name}\n" for device, _ in resolvable)
    if form in ("json", "yaml"):
        return _document(
            [
                {
                    "device": device.name,
                    "file": device.file.path if device.file else None,
                    "shadowed": [file.path for file in device.shadowed],
                    "conflicting": [file.path for file in device.conflicting],
                }
                for device in devices
            ],
            form,
        )
    is_wide = form == "wide"
    lines = [("DEVICE", "SPEC FILE", *(("SHADOWS",) if is_wide else ()))]
    for device, path in resolvable:
        shadowed = ",".join(file.path for file in device.shadowed) or "-"
        lines.append((device.name, path, *((shadowed,) if is_wide else ())))
    return aligned(lines)


def _text(rows: list[Row], form: str, kind: str) -> str:
    if form == "name":
        names = [name for row in rows for name in row.names] + [ALL, NONE]
        return "".join(f"{kind}={name}\n" for name in names)
    if form in ("json", "yaml"):
        return _document([_row_document(row) for row in rows], form)
    header = COLUMNS + (WIDE if form == "wide" else ())
    lines = [header]
    for row in rows:
        cells = (
            row.device,
            row.index,
            "" if row.minor is None else str(row.minor),
            row.uuid,
            row.pci_address,
            row.model,
            row.mig_profile,
        )
        extra = (",".join(row.names[1:]), ",".join(row.nodes)) if form == "wide" else ()
        lines.append(tuple(cell or "-" for cell in cells + extra))
    return aligned(lines)


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "device": row.device,
        "index": row.index,
        "minor": row.minor,
        "uuid": row.uuid or None,
        "pciAddress": row.pci_address or None,
        "model": row.model,
        "migProfile": row.mig_profile or None,
        "names": list(row.names),
        "nodes": list(row.nodes),
    }


def _document(document: list[dict[str, Any]], form: str) -> str:
    if form == "json":
        return json.dumps(document, indent=2) + "\n"
    import yaml  # noqa: PLC0415

    text: str = yaml.safe_dump(document, sort_keys=False)
    return text
