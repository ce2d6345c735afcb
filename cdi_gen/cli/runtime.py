# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen runtime``."""

from __future__ import annotations

import json
from typing import Any

import click

from cdi_gen.cli import CONFIGURATION, Group, console
from cdi_gen.cli.generate import FEATURE_FLAGS
from cdi_gen.cli.host_options import (
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
    """Prepare what the runtime shim and the prestart hook apply."""


@command.command("prepare", short_help="Write what containers may ask for to /run/cdi-gen.")
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
    help="Leave out one step of the hook, or all.  [default: none]",
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
    """Look at this host and write the specs and facts that containers are started with.

    The shim starts it by itself, with the options that config.toml comes to, when what is there
    does not fit the host any more. Starting it at boot spares the first container the wait.

    With --inventory it writes what it would write on the host of that inventory, to be read by a
    person: no shim uses the file, and no spec file is converted.

    How the host is laid out is best said in /etc/cdi-gen/config.toml: the shim then has it too.
    """
    from cdi_gen.programs import prepare  # noqa: PLC0415

    for flag in feature_flags:
        if flag not in FEATURE_FLAGS:
            console.note(f"unknown feature flag, ignored: {flag}", code="CDG-U101")
    if inventory_path is not None:
        if output is None or output == prepare.PATH:
            raise UsageError(
                f"{prepare.PATH} is made from this host, and not from an inventory",
                hint="name another file: -o FILE; or -o - for standard output",
                code="CDG-U002",
            )
        inventory = inventory_from(inventory_path, host)
        _write(prepare.from_inventory(inventory, disabled_hooks), output)
        return ExitCode.OK
    typed = from_command_line(host)
    # The shim knows only the files of the host: what else describes the host is part of the key.
    places = {
        "config": click.get_current_context().meta.get(CONFIGURATION),
        "config_search_path": typed.config_search_path,
        "dev_root": typed.dev_root,
        "library_search_path": typed.library_search_path,
    }
    choices = prepare.choices(
        driver_root=typed.driver_root or "/",
        hook=typed.hook_path or installed_hook,
        spec_directories=spec_directories,
        disabled_hooks=disabled_hooks,
        feature_flags=feature_flags,
        places=tuple(f"{name}={value}" for name, value in places.items() if value),
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
