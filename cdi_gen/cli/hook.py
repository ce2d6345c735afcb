# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen hook``."""

from __future__ import annotations

import os
import sys

import click

from cdi_gen.cdi.model import Hook
from cdi_gen.cli import Group, console
from cdi_gen.cli.host_options import SPEC_DIRECTORIES, TEXT
from cdi_gen.cli.install_options import install_options
from cdi_gen.cli.installed_specs import find_spec
from cdi_gen.errors import CdiGenError, UsageError

ALL_GPUS = "nvidia.com/gpu=all"


@click.group("hook", cls=Group)
def command() -> None:
    """Install the programs that engines run when a container starts, or run the hook by hand."""


@command.command("install", short_help="Install hook, runtime shim and prestart hook.")
@install_options
def install(
    *, prefix: str, root: str, python: str, as_hook: bool, as_runtime: bool, as_prestart: bool
) -> None:
    """Copy hook, runtime shim and prestart hook to PREFIX/libexec/cdi-gen, as files of root.

    Specs that are generated afterwards contain the hook.
    """
    from cdi_gen.programs import install  # noqa: PLC0415

    program = sys.argv[0] if os.path.basename(sys.argv[0]) == "cdi-gen" and root == "/" else None
    generator = program and os.path.abspath(program)
    path = install.install(prefix, root=root, python=python, generator=generator)
    console.note(f"installed {path}; specs generated from now on contain the hook")
    links = zip(install.LINKS, (as_hook, as_runtime, as_prestart), strict=True)
    for name, is_requested in links:
        if is_requested:
            console.note(f"linked {install.link(name, prefix, root=root)}")


@command.command("run", short_help="Run hooks on a root file system, or print their changes.")
@click.argument("rootfs", type=click.Path(exists=True, file_okay=False))
@click.argument("arguments", nargs=-1, type=TEXT)
@click.option(
    "--device",
    "devices",
    multiple=True,
    type=TEXT,
    help="Qualified name of a device whose hooks are run; may be given several times.  [default: "
    f"{ALL_GPUS}]",
)
@SPEC_DIRECTORIES
@click.option("-n", "--dry-run", is_flag=True, help="Print the changes, and change nothing.")
def run(
    *,
    rootfs: str,
    arguments: tuple[str, ...],
    devices: tuple[str, ...],
    spec_directories: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Run hooks on the directory ROOTFS, as on the root file system of a container.

    The hooks are those of the spec that defines the device. With ARGUMENTS after --, the hook
    program is run with these arguments instead:

    \b
      cdi-gen hook run --dry-run ./rootfs
      cdi-gen hook run ./rootfs -- update-ldcache --folder /usr/local/nvidia/lib64

    Nothing is mounted, and so files in the container's /proc are not changed.
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    from cdi_gen.programs import run_hook  # noqa: PLC0415

    if arguments:
        if devices or spec_directories:
            raise UsageError(
                "--device and --spec-dir have no effect with ARGUMENTS, which replace the hooks of "
                "a spec",
                code="CDG-U002",
            )
        hooks = [run_hook.from_arguments(arguments)]
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
    """Return the hooks of a container with these devices, without duplicates."""
    hooks: dict[Hook, None] = {}
    for name in devices:
        spec, source = find_spec(name, directories)
        device = next(device for device in spec.devices if f"{spec.kind}={device.name}" == name)
        device_hooks = (spec.container_edits | device.container_edits).hooks
        if not device_hooks:
            console.note(f"{name} has no hooks in {source}")
        hooks.update(dict.fromkeys(device_hooks))
    return list(hooks)
