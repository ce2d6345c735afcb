# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen generate``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.wire import dump
from cdi_gen.cli import console, named_file, report, spec_options
from cdi_gen.cli.host_options import (
    DIRECTORY,
    INVENTORY,
    PROGRAM,
    TEXT,
    HostOptions,
    host_options,
    inventory_from,
)
from cdi_gen.cli.output import difference, print_data
from cdi_gen.errors import ExitCode, UsageError
from cdi_gen.generate import DEFAULTS, modes
from cdi_gen.generate.options import (
    ALL,
    CHECK_REQUIREMENTS,
    FILES,
    FORMS,
    STRATEGIES,
    TREE,
    Options,
)
from cdi_gen.inventory import Inventory

if TYPE_CHECKING:
    from cdi_gen.generate.modes.mode import Mode


@click.command("generate")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    envvar="NVIDIA_CTK_CDI_OUTPUT_FILE_PATH",
    help="Write to a file, atomically.  [default: standard output]",
)
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["json", "yaml"], case_sensitive=False),
    envvar="NVIDIA_CTK_CDI_GENERATE_OUTPUT_FORMAT",
    help="Format of the spec.  [default: the format of the file's extension, or json]",
)
@INVENTORY
@click.option(
    "--capabilities",
    metavar="LIST",
    default=ALL,
    show_default=True,
    help="Driver capabilities, as in NVIDIA_DRIVER_CAPABILITIES: compute,utility,video,graphics,"
    "display,ngx,compat32,mps; all; or none.",
)
@click.option(
    "--for",
    "consumer",
    metavar="ENGINE[@VERSION]",
    help="Write the spec for one engine, with all features that the engine supports: podman@4.9, "
    "docker, containerd …  [default: only features that every engine supports]",
)
@click.option(
    "--form",
    type=click.Choice(FORMS),
    default=FILES,
    show_default=True,
    help="What containers get from the host: the driver's files, each by its path; or the driver "
    "tree, a directory that is made at boot and after each update of the driver, so that the spec "
    "names no version.",
)
@click.option(
    "--hooks",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="With none the spec has no hooks: no program runs when a container starts.",
)
@click.option(
    "--rootless",
    is_flag=True,
    help="Write for engines of ordinary users, which cannot create device nodes: leave out nodes "
    "of the driver that do not exist.  [default: on for an ordinary user, without --inventory]",
)
@click.option(
    "--container-library-dir",
    "library_directories",
    multiple=True,
    type=DIRECTORY,
    help="With --hooks=none: mount the libraries only to this directory of the container; may be "
    "given several times.  [default: library directories of all images: /usr/lib64, /usr/lib …]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the changes and write nothing; the exit code is 5 if there are changes.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Print for each file whether the spec would contain it, and why; write no spec.",
)
@click.option(
    "--vendor",
    "--cdi-vendor",
    default="nvidia.com",
    show_default=True,
    envvar="NVIDIA_CTK_CDI_GENERATE_VENDOR",
    help="Vendor of the CDI kind.",
)
@click.option(
    "--class",
    "--cdi-class",
    "class_",
    envvar="NVIDIA_CTK_CDI_GENERATE_CLASS",
    help="Class of the CDI kind.  [default: gpu, or the class of the mode: cap, gds, mofed, "
    "gdrcopy, nvswitch, imex-channel]",
)
@click.option(
    "--device-name-strategy",
    "names",
    multiple=True,
    type=click.Choice(STRATEGIES),
    envvar="NVIDIA_CTK_CDI_GENERATE_DEVICE_NAME_STRATEGIES",
    help="Names of the devices; may be given several times.  [default: index, uuid, pci]",
)
@click.option(
    "--device-id",
    "--device-ids",
    "--device",
    "--devices",
    "devices",
    multiple=True,
    type=TEXT,
    envvar="NVIDIA_CTK_CDI_GENERATE_DEVICE_IDS",
    help="Write only this device, given by any of its names; may be given several times. none: "
    "only the driver's files.  [default: all]",
)
@click.option(
    "--no-all-device",
    is_flag=True,
    envvar="NVIDIA_CTK_CDI_GENERATE_NO_ALL_DEVICE",
    help="Leave out the devices all and none.",
)
@click.option(
    "--disable-hook",
    "--disable-hooks",
    "disabled_hooks",
    multiple=True,
    type=TEXT,
    envvar="NVIDIA_CTK_CDI_GENERATE_DISABLED_HOOKS",
    help="Leave out a step of the hook, or all steps; may be given several times.  [default: none]",
)
@click.option(
    "--enable-hook",
    "--enable-hooks",
    "enabled_hooks",
    multiple=True,
    type=TEXT,
    envvar="NVIDIA_CTK_CDI_GENERATE_ENABLED_HOOKS",
    help="Add an optional step of the hook, or keep a step in spite of --disable-hook. The "
    "optional steps are chmod and check-requirements; with the latter a container starts only if "
    "this host meets the image's NVIDIA_REQUIRE_*.  [default: none]",
)
@click.option(
    "--ldconfig-path",
    type=PROGRAM,
    envvar="NVIDIA_CTK_CDI_GENERATE_LDCONFIG_PATH",
    help="Let the hook run this ldconfig of the host.  [default: the hook writes the cache itself]",
)
@click.option(
    "--leave-read-only-roots",
    is_flag=True,
    help="Let the hook change nothing in read-only containers. The loader then finds only "
    "libraries in its default directories.",
)
@click.option(
    "--mode",
    "--discovery-mode",
    default="auto",
    show_default=True,
    envvar="NVIDIA_CTK_CDI_GENERATE_MODE",
    help="Devices of the spec. auto, nvml: the GPUs. cap: the driver capabilities, as separate "
    "devices. gds, mofed, gdrcopy, nvswitch, imex: GPUDirect Storage, RDMA network cards, GDRCopy, "
    "NVSwitches, IMEX channels.",
)
@click.option("--feature-flag", "--feature-flags", "feature_flags", multiple=True, hidden=True)
@host_options
def command(
    host: HostOptions,
    /,
    *,
    output: str | None,
    text_format: str | None,
    inventory_path: str | None,
    capabilities: str,
    consumer: str | None,
    form: str,
    hooks: str,
    rootless: bool,
    library_directories: tuple[str, ...],
    dry_run: bool,
    explain: bool,
    vendor: str,
    class_: str | None,
    names: tuple[str, ...],
    devices: tuple[str, ...],
    no_all_device: bool,
    disabled_hooks: tuple[str, ...],
    enabled_hooks: tuple[str, ...],
    ldconfig_path: str | None,
    leave_read_only_roots: bool,
    mode: str,
    feature_flags: tuple[str, ...],
) -> int:
    """Write the CDI spec of this host's GPUs.

    \b
      cdi-gen generate -o /etc/cdi/nvidia.json
      cdi-gen generate > /etc/cdi/nvidia.json

    With -o the old file is kept after an error. With > the shell empties the file first.
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    spec_options.check_flags(feature_flags)
    selected_mode = modes.find(mode)
    if explain and selected_mode.transports:
        raise UsageError(
            f"--explain is not supported with --mode {mode.lower()}, which has no driver files",
            code="CDG-U002",
            subject="--explain",
        )
    if form == TREE and selected_mode.transports:
        raise UsageError(
            f"--form tree is not supported with --mode {mode.lower()}, which has no driver files",
            code="CDG-U002",
            subject="--form",
        )
    spec_options.check_hooks(disabled_hooks, enabled_hooks)
    engine = spec_options.consumer(consumer)
    options = Options(
        vendor=vendor,
        class_=class_ or selected_mode.class_,
        names=tuple(dict.fromkeys(names)) or DEFAULTS.names,
        devices=devices or (ALL,),
        all_device=not no_all_device,
        capabilities=spec_options.capabilities(capabilities),
        form=form,
        hooks=hooks == "auto",
        library_directories=library_directories or None,
        disabled_hooks=disabled_hooks,
        enabled_hooks=enabled_hooks,
        ldconfig_path=ldconfig_path,
        rootless=rootless or (inventory_path is None and os.geteuid() != 0),
        leave_read_only_roots=leave_read_only_roots,
        additional_gids=engine is not None and engine.takes_additional_gids,
        newest_version=engine.newest_cdi_version if engine else None,
    )
    inventory = inventory_from(
        inventory_path,
        host,
        requirement_facts=options.runs(CHECK_REQUIREMENTS),
        transports=selected_mode.transports,
    )
    if explain:
        from cdi_gen.generate.explain import table  # noqa: PLC0415

        print_data(table(inventory, options))
        return ExitCode.OK
    output = None if output == "-" else output
    return _write(selected_mode, inventory, options, output, text_format, dry_run=dry_run)


def _write(
    mode: Mode,
    inventory: Inventory,
    options: Options,
    output: str | None,
    text_format: str | None,
    *,
    dry_run: bool,
) -> int:
    """Write the spec, or with ``dry_run`` print its changes; return the exit code."""
    spec = mode.spec(inventory, options)
    text = dump(spec, "yaml" if _is_yaml(output, text_format) else "json")
    changes = ""
    if dry_run:
        changes = _difference(output, text)
        print_data(changes)
    else:
        _write_text(text, spec, output)
    report.print_summary(mode, inventory, spec, output, options, dry_run=dry_run)
    if inventory.unusable_devices and not mode.transports:
        return ExitCode.PARTIAL
    return ExitCode.STALE if dry_run and output and changes else ExitCode.OK


def _is_yaml(output: str | None, text_format: str | None) -> bool:
    """Whether to write YAML; the file's extension has priority over ``--format``."""
    extension_format = None
    if output:
        extension = output.rpartition(".")[2]
        extension_format = {"yaml": "yaml", "yml": "yaml", "json": "json"}.get(extension)
    if extension_format and text_format and extension_format != text_format:
        console.warning(
            f"--format {text_format} does not match {output}: writing {extension_format}",
            code="CDG-G101",
        )
    return (extension_format or text_format) == "yaml"


def _write_text(text: str, spec: Spec, output: str | None) -> None:
    if output and not output.endswith((".json", ".yaml")):
        console.warning(f"engines read .json and .yaml files only, not {output}", code="CDG-G102")
    if output:
        from cdi_gen import store  # noqa: PLC0415

        store.write(text, output, spec=spec)
    else:
        print_data(text)


def _difference(path: str | None, text: str) -> str:
    """Return the change of the file as a unified diff."""
    old = ""
    if path:
        from cdi_gen.cdi.wire import MAX_SIZE  # noqa: PLC0415

        if os.path.exists(path):
            old = named_file.read(path, MAX_SIZE)[0].decode("utf-8", "replace")
    name = path or "standard output"
    return difference(old, text, name, f"{name} (new)")
