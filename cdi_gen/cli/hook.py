# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen hook``."""

from __future__ import annotations

import click

from cdi_gen.cli import talk
from cdi_gen.cli.where import DIRECTORY, PROGRAM


@click.group("hook")
def command() -> None:
    """Install the program that engines run when a container starts."""


@command.command("install", short_help="Copy the hook program to PREFIX/libexec/cdi-gen.")
@click.option(
    "--prefix",
    type=DIRECTORY,
    default="/usr/local",
    show_default=True,
    help="Where the installation goes.",
)
@click.option(
    "--root", type=DIRECTORY, default="/", show_default=True, help="Build root of a package."
)
@click.option(
    "--python",
    type=PROGRAM,
    default="/usr/bin/python3",
    show_default=True,
    help="The interpreter it runs under: root's own.",
)
def install(*, prefix: str, root: str, python: str) -> None:
    """Copy the hook program to PREFIX/libexec/cdi-gen, as files of root.

    Specs that are generated from then on name it.
    """
    from cdi_gen import hook_install  # noqa: PLC0415

    path = hook_install.install(prefix, root=root, python=python)
    talk.note(f"installed {path}; specs generated from now on name it")
