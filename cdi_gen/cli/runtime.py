# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen runtime``."""

from __future__ import annotations

import json
from typing import Any

import click

from cdi_gen.cli import CONFIGURATION, console
from cdi_gen.cli.generate import FEATURE_FLAGS
from cdi_gen.cli.host_options import PROGRAM, SPEC_DIRECTORIES, TEXT, laid_out, said_where, typed
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
@laid_out
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
    *,
    output: str | None,
    installed_hook: str | None,
    spec_directories: tuple[str, ...],
    disabled_hooks: tuple[str, ...],
    feature_flags: tuple[str, ...],
    **layout: Any,
) -> int:
    """Look at this host and write the specs and facts that containers are started with.

    The shim starts it by itself, with the options that config.toml comes to, when what is there
    does not fit the host any more. Starting it at boot spares the first container the wait.

    How the host is laid out is best said in /etc/cdi-gen/config.toml: the shim then has it too.
    """
    from cdi_gen.host import Where  # noqa: PLC0415
    from cdi_gen.programs import prepare  # noqa: PLC0415

    context = click.get_current_context()

    for flag in feature_flags:
        if flag not in FEATURE_FLAGS:
            console.note(f"unknown feature flag, ignored: {flag}")
    said = {name: typed(context, name) for name in layout}
    # The shim knows the host's own files alone.
    said["config"] = context.meta.get(CONFIGURATION)
    choices = prepare.choices(
        driver_root=said.pop("driver_root") or "/",
        hook=said.pop("hook_path") or installed_hook,
        spec_directories=spec_directories,
        disabled_hooks=disabled_hooks,
        feature_flags=feature_flags,
        places=tuple(f"{name}={value}" for name, value in sorted(said.items()) if value),
    )
    where = Where(**{**layout, "hook_path": layout["hook_path"] or choices.hook or None})
    with said_where():
        document = prepare.prepare(choices, where)
    if output == "-":
        print_data(json.dumps(document, indent=1) + "\n")
    else:
        prepare.write(document, output or prepare.PATH)
    return ExitCode.OK
