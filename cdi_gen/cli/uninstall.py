# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen uninstall``."""

from __future__ import annotations

import click

from cdi_gen.cli import console
from cdi_gen.cli.install import reload_managers
from cdi_gen.cli.install_options import ROOT


@click.command("uninstall")
@ROOT
def command(*, root: str) -> None:
    """Remove what `cdi-gen install` installed, and nothing else.

    A file that was changed since stays. Specs stay too: a container with a spec that names the
    hook does not start without it, so remove these specs, and undo `cdi-gen engine configure`.
    """
    from cdi_gen.programs import installation  # noqa: PLC0415

    removal = installation.uninstall(root=root)
    for path in removal.removed:
        console.note(f"removed {path}")
    for path in removal.kept:
        console.warning(
            f"{path} was changed after the installation, and stays",
            code="CDG-P102",
            hint="remove the file if it is not needed",
            subject=path,
        )
    if root == "/":
        reload_managers()
    console.note(
        "containers no longer start with specs that name the hook, or with engines that are "
        "configured to use the runtime: remove these too"
    )
