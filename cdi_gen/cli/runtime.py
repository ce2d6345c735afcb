# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen runtime``."""

from __future__ import annotations

import json
from typing import Any

import click

from cdi_gen.cli import CONFIGURATION, Group, console
from cdi_gen.cli.host_options import (
    FEATURE_FLAGS,
    INVENTORY,
    PROGRAM,
    SPEC_DIRECTORIES,
    TEXT,
    HostOptions,
    from_command_line,
    inventory_from,
    locations,
    permanent_host_options,
    settings_named_in_errors,
)
from cdi_gen.cli.output import print_data
from cdi_gen.errors import ExitCode, UsageError


@click.group("runtime", cls=Group)
def command() -> None:
    """Prepare the specs for the runtime shim and the prestart hook."""


@command.command("prepare", short_help="Write /run/cdi-gen/runtime.json.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write to another file; -: standard output.  [default: /run/cdi-gen/runtime.json]",
)
@INVENTORY
@permanent_host_options
@click.option("--installed-hook", type=PROGRAM, hidden=True)
@SPEC_DIRECTORIES
@click.option(
    "--disable-hook",
    "disabled_hooks",
    multiple=True,
    type=TEXT,
    help="Leave out a step of the hook, or all steps; may be given several times.  [default: none]",
)
@click.option("--feature-flag", "feature_flags", multiple=True, type=TEXT, hidden=True)
def prepare(
    host: HostOptions,
    /,
    *,
    output: str | None,
    inventory_path: str | None,
    installed_hook: str | None,
    spec_directories: tuple[str, ...],
    disabled_hooks: tuple[str, ...],
    feature_flags: tuple[str, ...],
) -> int:
    """Write the specs and facts of this host that containers are started with.

    The shim runs this command itself, with the options of its config.toml, if the existing file
    does not match the host any more. If the command runs at boot, the first container starts
    faster.

    With --inventory the file is for reading only: the shim does not use the file, and no spec file
    is converted.

    Describe the layout of the host in /etc/cdi-gen/config.toml, so that the shim uses the same
    layout.
    """
    from cdi_gen.programs import prepare  # noqa: PLC0415

    for flag in feature_flags:
        if flag not in FEATURE_FLAGS:
            console.note(f"unknown feature flag {flag}, ignored", code="CDG-U101")
    if inventory_path is not None:
        if output is None or output == prepare.PATH:
            raise UsageError(
                f"--inventory cannot be used for {prepare.PATH}, which must describe this host",
                hint="write to another file with -o FILE, or to standard output with -o -",
                code="CDG-U002",
            )
        inventory = inventory_from(inventory_path, host)
        _write(prepare.from_inventory(inventory, disabled_hooks), output)
        return ExitCode.OK
    command_line = from_command_line(host)
    # The shim knows only the configuration files of the host. Other options become part of the key,
    # so that the shim does not use the file.
    options = {
        "config": click.get_current_context().meta.get(CONFIGURATION),
        "config_search_path": command_line.config_search_path,
        "dev_root": command_line.dev_root,
        "library_search_path": command_line.library_search_path,
    }
    choices = prepare.choices(
        driver_root=command_line.driver_root or "/",
        hook=command_line.hook_path or installed_hook,
        spec_directories=spec_directories,
        disabled_hooks=disabled_hooks,
        feature_flags=feature_flags,
        layout_options=tuple(f"{name}={value}" for name, value in options.items() if value),
    )
    where = locations(host._replace(hook_path=host.hook_path or choices.hook or None))
    with settings_named_in_errors():
        document = prepare.prepare(choices, where)
    _write(document, output or prepare.PATH)
    return ExitCode.OK


def _write(document: dict[str, Any], output: str) -> None:
    from cdi_gen.programs import prepare  # noqa: PLC0415

    if output == "-":
        print_data(json.dumps(document, indent=1) + "\n")
    else:
        prepare.write(document, output)
