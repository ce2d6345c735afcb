# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen show``."""

from __future__ import annotations

import click

from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, Spec
from cdi_gen.cli.console import printable
from cdi_gen.cli.host_options import (
    INVENTORY,
    SPEC_DIRECTORIES,
    HostOptions,
    host_options,
    inventory_from,
)
from cdi_gen.cli.installed_specs import installed
from cdi_gen.cli.output import print_data
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
@host_options
def command(
    host: HostOptions,
    /,
    *,
    name: str,
    form: str,
    inventory_path: str | None,
    spec_directories: tuple[str, ...],
) -> None:
    """Show what a container gets when it asks for the device NAME.

    NAME is a qualified name (nvidia.com/gpu=0), looked up in the installed spec files as engines
    do; or the plain name of a device of this host (0), whose spec is made on the spot.
    """
    if "=" in name and inventory_path is None:
        spec, source = installed(name, spec_directories)
    else:
        spec = generate(inventory_from(inventory_path, host))
        source = inventory_path or "this host"
    plain = name.rpartition("=")[2]
    device = next((each for each in spec.devices if each.name == plain), None)
    if device is None:
        listing = "cdi-gen list" + (f" --inventory {inventory_path}" if inventory_path else "")
        raise UsageError(
            f"there is no device {name} in {source}",
            hint=f"see them with: {listing}",
            code="CDG-U005",
            subject=name,
        )
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
    lines += [f"device  {_node(node)}" for node in edits.device_nodes]
    lines += [f"net     {each.name}  from {each.host_interface_name}" for each in edits.net_devices]
    lines += [f"mount   {_mount(mount)}" for mount in edits.mounts]
    if edits.intel_rdt is not None:
        lines.append(f"rdt     {_intel_rdt(edits.intel_rdt)}")
    lines += [f"group   {gid}" for gid in edits.additional_gids]
    lines += [f"hook    {_hook(hook)}" for hook in edits.hooks]
    return "\n".join(map(printable, lines)) + "\n"


def _node(node: DeviceNode) -> str:
    """What the spec leaves open is the host's, and told as that."""
    numbers = f"{node.major}:{node.minor or 0}" if node.major else ""
    if node.type == "p":
        what = "p"
    elif node.type and numbers:
        what = f"{node.type} {numbers}"
    else:
        what = " ".join(filter(None, (node.type, numbers, "as on the host")))
    parts = [node.path, what, node.permissions or "rwm"]
    if node.file_mode not in (None, _FOR_ALL):
        parts.append(f"mode {node.file_mode:04o}")
    parts += [
        f"{key} {value}"
        for key, value in (("uid", node.uid), ("gid", node.gid))
        if value is not None
    ]
    if node.host_path not in ("", node.path):
        parts.append(f"from {node.host_path}")
    return "  ".join(parts)


_FOR_ALL = 0o666
"""The mode that is not told: who may use the node is then a matter of the permissions alone."""


def _mount(mount: Mount) -> str:
    parts = [mount.container_path]
    is_bind = mount.type in ("", "bind", "none") or not {"bind", "rbind"}.isdisjoint(mount.options)
    if not is_bind:
        parts.append(f"a new {mount.type}")
    elif mount.host_path != mount.container_path:
        parts.append(f"from {mount.host_path}")
    others = [each for each in mount.options if each not in _COMMON_OPTIONS]
    if "ro" not in mount.options:
        others.insert(0, "writable")
    if others:
        parts.append(f"({', '.join(others)})")
    return "  ".join(parts)


_COMMON_OPTIONS = frozenset(
    {"ro", "rw", "bind", "rbind", "nosuid", "nodev", "private", "rprivate", "noexec"}
)
"""What takes rights away, or says again what the line says, is not told."""


def _intel_rdt(rdt: IntelRdt) -> str:
    given = (
        ("closID", rdt.clos_id),
        ("l3CacheSchema", rdt.l3_cache_schema),
        ("memBwSchema", rdt.mem_bw_schema),
        ("schemata", ", ".join(rdt.schemata)),
        ("enableMonitoring", "true" if rdt.enable_monitoring else ""),
        ("enableCMT", "true" if rdt.enable_cmt else ""),
        ("enableMBM", "true" if rdt.enable_mbm else ""),
    )
    return "  ".join(f"{key} {value}" for key, value in given if value) or "a group of its own"


def _hook(hook: Hook) -> str:
    """The program that is run, whatever it is told that it is called."""
    parts = [f"{hook.hook_name}:", hook.path, *hook.args[1:]]
    if hook.args and hook.args[0] not in (hook.path, hook.path.rpartition("/")[2]):
        parts.append(f"(as {hook.args[0]})")
    if hook.timeout is not None:
        parts.append(f"(at most {hook.timeout} s)")
    return " ".join(parts)
