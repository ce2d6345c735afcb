# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen show``."""

from __future__ import annotations

from typing import Any

import click

from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.cli.installed import installed
from cdi_gen.cli.output import print_data
from cdi_gen.cli.where import INVENTORY, SPEC_DIRECTORIES, inventory_from, looking
from cdi_gen.errors import UsageError
from cdi_gen.generate import generate


@click.command("show")
@click.argument("name")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="Form of what is printed on standard output.",
)
@INVENTORY
@SPEC_DIRECTORIES
@looking
def command(
    *,
    name: str,
    form: str,
    inventory_path: str | None,
    spec_directories: tuple[str, ...],
    **where: Any,
) -> None:
    """Show what a container gets when it asks for the device NAME.

    NAME is a qualified name (nvidia.com/gpu=0), looked up in the installed spec files as engines
    do; or the plain name of a device of this host (0), whose spec is made on the spot.
    """
    if "=" in name and inventory_path is None:
        spec, source = installed(name, spec_directories)
    else:
        spec = generate(inventory_from(inventory_path, **where))
        source = inventory_path or "this host"
    plain = name.rpartition("=")[2]
    device = next((each for each in spec.devices if each.name == plain), None)
    if device is None:
        listing = "cdi-gen list" + (f" --inventory {inventory_path}" if inventory_path else "")
        raise UsageError(f"there is no device {name} in {source}", hint=f"see them with: {listing}")
    if form == "table":
        print_data(_table(spec, device, source))
        return
    from cdi_gen.cdi.wire import dump  # noqa: PLC0415

    one = Spec(
        cdi_version=spec.cdi_version,
        kind=spec.kind,
        devices=(device,),
        container_edits=spec.container_edits,
    )
    print_data(dump(one, "yaml" if form == "yaml" else "json"))


def _table(spec: Spec, device: Device, source: str) -> str:
    edits: ContainerEdits = spec.container_edits | device.container_edits
    lines = [f"{spec.kind}={device.name}  (CDI {spec.cdi_version}, from {source})"]
    lines += [f"env     {entry}" for entry in edits.env]
    lines += [
        f"device  {node.path}  {node.type or 'c'} {node.major}:{node.minor}  {node.permissions}"
        + (f"  from {node.host_path}" if node.host_path else "")
        for node in edits.device_nodes
    ]
    lines += [
        f"mount   {mount.container_path}"
        + (f"  from {mount.host_path}" if mount.host_path != mount.container_path else "")
        + ("" if "ro" in mount.options else "  (writable)")
        for mount in edits.mounts
    ]
    lines += [f"group   {gid}" for gid in edits.additional_gids]
    lines += [f"hook    {hook.hook_name}: {' '.join(hook.args)}" for hook in edits.hooks]
    return "\n".join(lines) + "\n"
