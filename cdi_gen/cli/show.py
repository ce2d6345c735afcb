# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen show``."""

from __future__ import annotations

import click

from cdi_base.errors import printable
from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, Spec
from cdi_gen.cli.host_options import (
    INVENTORY,
    SPEC_DIRECTORIES,
    HostOptions,
    host_options,
    inventory_from,
)
from cdi_gen.cli.installed_specs import find_spec
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
    help="Format of the output.",
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
    """Show what a container gets when it requests the device NAME.

    NAME is a qualified name (nvidia.com/gpu=0), which is resolved with the installed spec files, as
    engines do; or the name of a device of this host (0), for which a spec is generated.
    """
    if "=" in name and inventory_path is None:
        spec, source = find_spec(name, spec_directories)
    else:
        spec = generate(inventory_from(inventory_path, host))
        source = inventory_path or "this host"
    device_name = name.rpartition("=")[2]
    device = next((device for device in spec.devices if device.name == device_name), None)
    if device is None:
        command_line = "cdi-gen list" + (f" --inventory {inventory_path}" if inventory_path else "")
        raise UsageError(
            f"no device {name} in {source}",
            hint=f"list the devices with: {command_line}",
            code="CDG-U005",
            subject=name,
        )
    if form == "table":
        print_data(_table(spec, device, source))
        return
    from cdi_gen.cdi.wire import dump  # noqa: PLC0415

    device_spec = Spec(
        cdi_version=spec.cdi_version,
        kind=spec.kind,
        devices=(device,),
        container_edits=spec.container_edits,
    )
    print_data(dump(device_spec, "yaml" if form == "yaml" else "json"))


def _table(spec: Spec, device: Device, source: str) -> str:
    edits: ContainerEdits = spec.container_edits | device.container_edits
    lines = [f"{spec.kind}={device.name}  (CDI {spec.cdi_version}, from {source})"]
    lines += [f"env     {entry}" for entry in edits.env]
    lines += [f"device  {_node(node)}" for node in edits.device_nodes]
    lines += [
        f"net     {interface.name}  from {interface.host_interface_name}"
        for interface in edits.net_devices
    ]
    lines += [f"mount   {_mount(mount)}" for mount in edits.mounts]
    if edits.intel_rdt is not None:
        lines.append(f"rdt     {_intel_rdt(edits.intel_rdt)}")
    lines += [f"group   {gid}" for gid in edits.additional_gids]
    lines += [f"hook    {_hook(hook)}" for hook in edits.hooks]
    return "\n".join(map(printable, lines)) + "\n"


def _node(node: DeviceNode) -> str:
    """Return the text for a device node; "as on the host" stands for values not in the spec."""
    numbers = f"{node.major}:{node.minor or 0}" if node.major else ""
    if node.type == "p":
        type_and_numbers = "p"
    elif node.type and numbers:
        type_and_numbers = f"{node.type} {numbers}"
    else:
        type_and_numbers = " ".join(filter(None, (node.type, numbers, "as on the host")))
    parts = [node.path, type_and_numbers, node.permissions or "rwm"]
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
"""The mode that is not printed: every user of the container may then open the node."""


def _mount(mount: Mount) -> str:
    parts = [mount.container_path]
    is_bind = mount.type in ("", "bind", "none") or not {"bind", "rbind"}.isdisjoint(mount.options)
    if not is_bind:
        parts.append(f"a new {mount.type}")
    elif mount.host_path != mount.container_path:
        parts.append(f"from {mount.host_path}")
    remarks = [option for option in mount.options if option not in _COMMON_OPTIONS]
    if "ro" not in mount.options:
        remarks.insert(0, "writable")
    if remarks:
        parts.append(f"({', '.join(remarks)})")
    return "  ".join(parts)


_COMMON_OPTIONS = frozenset(
    {"ro", "rw", "bind", "rbind", "nosuid", "nodev", "private", "rprivate", "noexec"}
)
"""Mount options that are not printed: they are usual, or the line already contains them."""


def _intel_rdt(rdt: IntelRdt) -> str:
    fields = (
        ("closID", rdt.clos_id),
        ("l3CacheSchema", rdt.l3_cache_schema),
        ("memBwSchema", rdt.mem_bw_schema),
        ("schemata", ", ".join(rdt.schemata)),
        ("enableMonitoring", "true" if rdt.enable_monitoring else ""),
        ("enableCMT", "true" if rdt.enable_cmt else ""),
        ("enableMBM", "true" if rdt.enable_mbm else ""),
    )
    return "  ".join(f"{key} {value}" for key, value in fields if value) or "a group of its own"


def _hook(hook: Hook) -> str:
    """Return the text for a hook, with ``args[0]`` if it differs from the program's name."""
    parts = [f"{hook.hook_name}:", hook.path, *hook.args[1:]]
    if hook.args and hook.args[0] not in (hook.path, hook.path.rpartition("/")[2]):
        parts.append(f"(as {hook.args[0]})")
    if hook.timeout is not None:
        parts.append(f"(at most {hook.timeout} s)")
    return " ".join(parts)
