# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen hook``."""

from __future__ import annotations

import os
import sys

import click

from cdi_gen.cdi.model import Hook
from cdi_gen.cli import Group, console
from cdi_gen.cli.host_options import DIRECTORY, PROGRAM, SPEC_DIRECTORIES, TEXT
from cdi_gen.cli.installed_specs import installed
from cdi_gen.errors import CdiGenError, UsageError

ALL_GPUS = "nvidia.com/gpu=all"


@click.group("hook", cls=Group)
def command() -> None:
    """Install the programs that engines run when a container starts, or run the hook by hand."""


@command.command("install", short_help="Copy what engines run to PREFIX/libexec/cdi-gen.")
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
@click.option(
    "--nvidia-cdi-hook",
    "as_hook",
    is_flag=True,
    help="Link the hook as PREFIX/bin/nvidia-cdi-hook too: for dockerd, which looks for that name "
    "before it maps --gpus to CDI, and for specs of nvidia-ctk.",
)
@click.option(
    "--nvidia-container-runtime",
    "as_runtime",
    is_flag=True,
    help="Link the runtime shim as PREFIX/bin/nvidia-container-runtime: for engines that are "
    "configured so.",
)
@click.option(
    "--nvidia-container-runtime-hook",
    "as_prestart",
    is_flag=True,
    help="Link the prestart hook as PREFIX/bin/nvidia-container-runtime-hook: for dockerd, which "
    "runs that for --gpus where it does not map it to CDI.",
)
def install(
    *, prefix: str, root: str, python: str, as_hook: bool, as_runtime: bool, as_prestart: bool
) -> None:
    """Copy hook, runtime shim and prestart hook to PREFIX/libexec/cdi-gen, as files of root.

    Specs that are generated from then on name the hook.
    """
    from cdi_gen.programs import install  # noqa: PLC0415

    started = sys.argv[0] if os.path.basename(sys.argv[0]) == "cdi-gen" and root == "/" else None
    generator = started and os.path.abspath(started)
    path = install.install(prefix, root=root, python=python, generator=generator)
    console.note(f"installed {path}; specs generated from now on name it")
    links = zip(install.LINKS, (as_hook, as_runtime, as_prestart), strict=True)
    for name, is_requested in links:
        if is_requested:
            console.note(f"linked {install.link(name, prefix, root=root)}")


@command.command("run", short_help="Run hooks on a root file system, or print what they would do.")
@click.argument("rootfs", type=click.Path(exists=True, file_okay=False))
@click.argument("words", nargs=-1, type=TEXT)
@click.option(
    "--device",
    "devices",
    multiple=True,
    type=TEXT,
    help=f"Whose hooks to run, by its qualified name.  [default: {ALL_GPUS}]",
)
@SPEC_DIRECTORIES
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be done, in order.")
def run(
    *,
    rootfs: str,
    words: tuple[str, ...],
    devices: tuple[str, ...],
    spec_directories: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Do to the directory ROOTFS what would be done to a container's root file system.

    The hooks are those of the spec that defines the device. WORDS after -- run one hook of your
    own wording instead:

    \b
      cdi-gen hook run --dry-run ./rootfs
      cdi-gen hook run ./rootfs -- update-ldcache --folder /usr/local/nvidia/lib64

    Nothing is mounted: /proc is a container's, and there is none.
    """  # noqa: D301
    from cdi_gen.programs import run_hook  # noqa: PLC0415

    if words:
        if devices or spec_directories:
            raise UsageError(
                "--device and --spec-dir name a spec's hooks; WORDS are one of yours",
                code="CDG-U002",
            )
        hooks = [run_hook.from_arguments(words)]
    else:
        hooks = _hooks_of(devices or (ALL_GPUS,), spec_directories)
    for hook in hooks:
        if dry_run and not run_hook.has_dry_run(hook.path):
            console.warning(
                f"{hook.path} has no dry run, so its changes are not shown: {' '.join(hook.args)}",
                code="CDG-P008",
            )
            continue
        status = run_hook.run(hook, rootfs, dry_run=dry_run)
        if status:
            raise CdiGenError(
                f"{' '.join(hook.args[:2])} ended with exit code {status}",
                code="CDG-P007",
                subject=hook.path,
            )


def _hooks_of(devices: tuple[str, ...], directories: tuple[str, ...]) -> list[Hook]:
    """The hooks that a container with these devices runs, each once."""
    found: dict[Hook, None] = {}
    for name in devices:
        spec, source = installed(name, directories)
        device = next(each for each in spec.devices if f"{spec.kind}={each.name}" == name)
        hooks = (spec.container_edits | device.container_edits).hooks
        if not hooks:
            console.note(f"{name} has no hook, by {source}")
        found.update(dict.fromkeys(hooks))
    return list(found)
