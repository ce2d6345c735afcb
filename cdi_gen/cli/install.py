# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen install``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import click

from cdi_gen.cli import console
from cdi_gen.cli.host_options import PROGRAM
from cdi_gen.cli.install_options import install_options


@click.command("install")
@install_options
@click.option(
    "--program",
    type=PROGRAM,
    help="Path of cdi-gen on the host, for units.  [default: this program, or PREFIX/bin/cdi-gen]",
)
@click.option(
    "--no-record",
    is_flag=True,
    help="Write no record, which `cdi-gen uninstall` needs: for packages.",
)
def command(
    *,
    prefix: str,
    root: str,
    python: str,
    program: str | None,
    no_record: bool,
    as_hook: bool,
    as_runtime: bool,
    as_prestart: bool,
) -> None:
    """Install the programs that engines run, and the units that keep the specs true.

    \b
      sudo cdi-gen install
      cdi-gen install --root /mnt/image --prefix /usr

    Nothing asks for a driver or a GPU, and no unit is enabled. `cdi-gen uninstall` removes what
    was installed.
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    from cdi_gen.programs import installation  # noqa: PLC0415
    from cdi_gen.programs.host_files import enabled_by_preset, host_files  # noqa: PLC0415
    from cdi_gen.programs.install import LINKS  # noqa: PLC0415

    program = program or _program(prefix, root)
    if root == "/":
        installation.require_safe_program(program)
    files = host_files(prefix, program)
    links = zip(LINKS, (as_hook, as_runtime, as_prestart), strict=True)
    names = [name for name, is_requested in links if is_requested]
    plan = installation.plan(prefix, files, names)
    installation.install(
        plan, files, root=root, python=python, program=program, record=not no_record
    )
    for path in (plan.programs, *plan.files, *plan.links):
        console.note(f"installed {path}")
    if root == "/":
        reload_managers()
    units = shlex.join(enabled_by_preset(files))
    console.note(f"no unit is enabled; for specs at every boot: systemctl enable --now {units}")


def reload_managers() -> None:
    """Let systemd and udev read the files again where they run."""
    for directory, words in (
        ("/run/systemd/system", ("systemctl", "daemon-reload")),
        ("/run/udev", ("udevadm", "control", "--reload")),
    ):
        if not os.path.isdir(directory):
            continue
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            console.warning(
                f"{words[0]} has not read the files again: {error}",
                code="CDG-P101",
                hint=f"run: {shlex.join(words)}",
                subject=words[0],
            )


def _program(prefix: str, root: str) -> str:
    """Return the path of this program; of the prefix if it does not run on the host."""
    if root == "/" and os.path.basename(sys.argv[0]) == "cdi-gen":
        return os.path.abspath(sys.argv[0])
    return f"{prefix.rstrip('/')}/bin/cdi-gen"
