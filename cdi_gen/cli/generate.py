# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen generate``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.wire import dump
from cdi_gen.cli import console, named_file, report
from cdi_gen.cli.host_options import (
    DIRECTORY,
    INVENTORY,
    PROGRAM,
    TEXT,
    HostOptions,
    host_options,
    inventory_from,
)
from cdi_gen.cli.output import print_data
from cdi_gen.errors import ExitCode, UsageError
from cdi_gen.generate import DEFAULTS, modes
from cdi_gen.generate.options import ALL, CHECK_REQUIREMENTS, HOOKS, NONE, STRATEGIES, Options
from cdi_gen.inventory import Inventory

if TYPE_CHECKING:
    from cdi_gen.cdi.consumers import Consumer
    from cdi_gen.generate.modes.mode import Mode

FEATURE_FLAGS = ("no-additional-gids-for-device-nodes", "disable-nvsandboxutils")
"""Flags of nvidia-ctk for what cdi-gen does anyway."""


@click.command("generate")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    envvar="NVIDIA_CTK_CDI_OUTPUT_FILE_PATH",
    help="Write to a file, at once and whole.  [default: standard output]",
)
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["json", "yaml"], case_sensitive=False),
    envvar="NVIDIA_CTK_CDI_GENERATE_OUTPUT_FORMAT",
    help="[default: by the file's extension, else json]",
)
@INVENTORY
@click.option(
    "--capabilities",
    metavar="LIST",
    default=ALL,
    show_default=True,
    help="Driver capabilities, as in NVIDIA_DRIVER_CAPABILITIES: compute,utility,video,graphics,"
    "display,ngx,compat32,mps; or none.",
)
@click.option(
    "--for",
    "consumer",
    metavar="ENGINE[@VERSION]",
    help="Write for one engine what that engine takes: podman@4.9, docker, containerd …  "
    "[default: what every engine takes]",
)
@click.option(
    "--hooks",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="none: a spec that runs no program when a container starts.",
)
@click.option(
    "--rootless",
    is_flag=True,
    help="Write for engines of ordinary users, which cannot make a device node: leave out the "
    "driver's nodes that do not exist.  [default: where an ordinary user looks]",
)
@click.option(
    "--container-library-dir",
    "library_directories",
    multiple=True,
    type=DIRECTORY,
    help="With --hooks=none: where the libraries go in the container, and nowhere else; may be "
    "given several times.  [default: where any image finds them: /usr/lib64, /usr/lib …]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would change in the file and write nothing; exit code 5 if something would.",
)
@click.option(
    "--explain", is_flag=True, help="Print for each file whether it is taken, and why; no spec."
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
    help="Class of the CDI kind.  [default: gpu, or that of the mode: cap, gds, mofed, gdrcopy, "
    "nvswitch, imex-channel]",
)
@click.option(
    "--device-name-strategy",
    "names",
    multiple=True,
    type=click.Choice(STRATEGIES),
    envvar="NVIDIA_CTK_CDI_GENERATE_DEVICE_NAME_STRATEGIES",
    help="How devices are named; may be given several times.  [default: index, uuid, pci]",
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
    help="Devices to put in the spec, by any of their names; none: only the driver's files.  "
    "[default: all]",
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
    help="Leave out one step of the hook, or all.  [default: none]",
)
@click.option(
    "--enable-hook",
    "--enable-hooks",
    "enabled_hooks",
    multiple=True,
    type=TEXT,
    envvar="NVIDIA_CTK_CDI_GENERATE_ENABLED_HOOKS",
    help="Keep a step that --disable-hook leaves out; and chmod, and check-requirements, with "
    "which a container starts only if this host is what the image's NVIDIA_REQUIRE_* ask for.  "
    "[default: none]",
)
@click.option(
    "--ldconfig-path",
    type=PROGRAM,
    envvar="NVIDIA_CTK_CDI_GENERATE_LDCONFIG_PATH",
    help="Have the hook run this ldconfig of the host.  [default: it writes the cache itself]",
)
@click.option(
    "--leave-read-only-roots",
    is_flag=True,
    help="Have the hook change nothing of the root of a read-only container, which then finds the "
    "driver only where its loader looks anyway.",
)
@click.option(
    "--mode",
    "--discovery-mode",
    default="auto",
    show_default=True,
    envvar="NVIDIA_CTK_CDI_GENERATE_MODE",
    help="auto, nvml: the GPUs. cap: the driver capabilities as devices of their own. gds, mofed, "
    "gdrcopy, nvswitch, imex: GPUDirect Storage, RDMA network cards, GDRCopy, NVSwitches, IMEX "
    "channels.",
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
      cdi-gen generate > /etc/cdi/nvidia.json       or, safer, since the shell
      cdi-gen generate -o /etc/cdi/nvidia.json      empties the file first
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    _check_flags(feature_flags)
    selected_mode = modes.find(mode)
    if explain and selected_mode.transports:
        raise UsageError(
            f"--explain is about files of the driver; --mode {mode.lower()} has none of them",
            code="CDG-U002",
            subject="--explain",
        )
    _check_hooks(disabled_hooks, enabled_hooks)
    engine = _consumer(consumer)
    options = Options(
        vendor=vendor,
        class_=class_ or selected_mode.class_,
        names=tuple(dict.fromkeys(names)) or DEFAULTS.names,
        devices=devices or (ALL,),
        all_device=not no_all_device,
        capabilities=_capabilities(capabilities),
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
    """Write the spec, or show what would change, and report it."""
    spec = mode.spec(inventory, options)
    text = dump(spec, "yaml" if _is_yaml(output, text_format) else "json")
    difference = ""
    if dry_run:
        difference = _difference(output, text)
        print_data(difference)
    else:
        _deliver(text, spec, output)
    report.written(mode, inventory, spec, output, options, dry_run=dry_run)
    if inventory.unusable_devices and not mode.transports:
        return ExitCode.PARTIAL
    return ExitCode.STALE if dry_run and output and difference else ExitCode.OK


def _check_flags(flags: tuple[str, ...]) -> None:
    for flag in flags:
        if flag not in FEATURE_FLAGS:
            raise UsageError(
                f"unknown feature flag: {flag}",
                hint=f"known: {', '.join(FEATURE_FLAGS)}",
                code="CDG-U003",
                subject="--feature-flag",
            )


def _check_hooks(disabled: tuple[str, ...], enabled: tuple[str, ...]) -> None:
    for hook in disabled + enabled:
        if hook not in (*HOOKS, ALL):
            raise UsageError(
                f"unknown hook: {hook}",
                hint=f"known: {', '.join(HOOKS)}, all",
                code="CDG-U003",
                subject=hook,
            )
    if ALL in enabled:
        raise UsageError(
            "--enable-hook all: name the hooks to enable",
            hint=f"known: {', '.join(HOOKS)}",
            code="CDG-U003",
            subject="--enable-hook",
        )


def _consumer(name: str | None) -> Consumer | None:
    """The engine that ``--for`` names."""
    if not name:
        return None
    from cdi_gen.cdi import consumers  # noqa: PLC0415

    try:
        return consumers.find(name)
    except consumers.UnknownConsumerError as error:
        raise UsageError(f"--for: {error}", code="CDG-U003", subject="--for") from error


def _capabilities(text: str) -> tuple[str, ...]:
    """Names as ``Options`` takes them; ``none`` is for specs to be composed with ``--mode cap``."""
    names = tuple(name for part in text.split(",") if (name := part.strip()))
    if names == (NONE,):
        return ()
    if not names:
        raise UsageError(
            "--capabilities names none: a container would get no file of the driver",
            hint="leave the option out for all of them; or say it: --capabilities none",
            code="CDG-U006",
            subject="--capabilities",
        )
    return names


def _is_yaml(output: str | None, text_format: str | None) -> bool:
    """The format: the file's extension wins, since engines go by it."""
    by_extension = None
    if output:
        extension = output.rpartition(".")[2]
        by_extension = {"yaml": "yaml", "yml": "yaml", "json": "json"}.get(extension)
    if by_extension and text_format and by_extension != text_format:
        console.warning(
            f"--format {text_format} does not fit {output}: writing {by_extension}", code="CDG-G101"
        )
    return (by_extension or text_format) == "yaml"


def _deliver(text: str, spec: Spec, output: str | None) -> None:
    if output and not output.endswith((".json", ".yaml")):
        console.warning(f"engines read .json and .yaml files only, not {output}", code="CDG-G102")
    if output:
        from cdi_gen import store  # noqa: PLC0415

        store.write(text, output, spec=spec)
    else:
        print_data(text)


def _difference(path: str | None, text: str) -> str:
    """What would change in the file, as a unified diff."""
    import difflib  # noqa: PLC0415

    old = ""
    if path:
        from cdi_gen.cdi.wire import MAX_SIZE  # noqa: PLC0415

        if os.path.exists(path):
            old = named_file.read(path, MAX_SIZE)[0].decode("utf-8", "replace")
    name = path or "standard output"
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), text.splitlines(keepends=True), name, f"{name} (new)"
    )
    return "".join(lines)
