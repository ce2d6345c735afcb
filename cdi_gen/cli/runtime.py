# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen runtime``."""

from __future__ import annotations

import json

import click

from cdi_gen.cli import CONFIGURATION, console
from cdi_gen.cli.generate import FEATURE_FLAGS
from cdi_gen.cli.host_options import (
    PROGRAM,
    SPEC_DIRECTORIES,
    TEXT,
    HostOptions,
    from_command_line,
    locations,
    permanent_host_options,
    settings_named_in_errors,
)
from cdi_gen.cli.output import print_data
from cdi_gen.errors import ExitCode


@click.group("runtime")
def command() -> None:
    """Prepare what the runtime shim and the prestart hook apply."""


@command.command("prepare", short_help="Write what containers may ask for to /run/cdi-gen.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write to another file; -: standard output.  [default: /run/cdi-gen/runtime.json]",
)
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
    installed_hook: str | None,
    spec_directories: tuple[str, ...],
    disabled_hooks: tuple[str, ...],
    feature_flags: tuple[str, ...],
) -> int:
    """Look at this host and write the specs and facts that containers are started with.

    The shim starts it by itself, with the options that config.toml comes to, when what is there
    does not fit the host any more. Starting it at boot spares the first container the wait.

    How the host is laid out is best said in /etc/cdi-gen/config.toml: the shim then has it too.
    """
    from cdi_gen.programs import prepare  # noqa: PLC0415

    for flag in feature_flags:
        if flag not in FEATURE_FLAGS:
            console.note(f"unknown feature flag, ignored: {flag}")
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
    if output == "-":
        print_data(json.dumps(document, indent=1) + "\n")
    else:
        prepare.write(document, output or prepare.PATH)
    return ExitCode.OK
