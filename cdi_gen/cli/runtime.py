# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen runtime``."""

from __future__ import annotations

import json

import click

from cdi_gen.cli import talk
from cdi_gen.cli.generate import FEATURE_FLAGS
from cdi_gen.cli.output import print_data
from cdi_gen.cli.where import DIRECTORY, PROGRAM, SPEC_DIRECTORIES, TEXT
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
@click.option(
    "--driver-root",
    type=DIRECTORY,
    default="/",
    show_default=True,
    help="Directory under which the driver is installed.",
)
@click.option(
    "--nvidia-cdi-hook-path",
    "hook",
    type=PROGRAM,
    help="The hook program.  [default: the installed cdi-gen-hook]",
)
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
    driver_root: str,
    hook: str | None,
    spec_directories: tuple[str, ...],
    disabled_hooks: tuple[str, ...],
    feature_flags: tuple[str, ...],
) -> int:
    """Look at this host and write the specs and facts that containers are started with.

    The shim starts it by itself, with the options that config.toml comes to, when what is there
    does not fit the host any more. Starting it at boot spares the first container the wait.
    """
    from cdi_gen import runtime_preparation  # noqa: PLC0415

    for flag in feature_flags:
        if flag not in FEATURE_FLAGS:
            talk.note(f"unknown feature flag, ignored: {flag}")
    document = runtime_preparation.prepare(
        runtime_preparation.choices(
            driver_root=driver_root,
            hook=hook,
            spec_directories=spec_directories,
            disabled_hooks=disabled_hooks,
            feature_flags=feature_flags,
        )
    )
    if output == "-":
        print_data(json.dumps(document, indent=1) + "\n")
    else:
        runtime_preparation.write(document, output or runtime_preparation.PATH)
    return ExitCode.OK
