# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen engine``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cdi_base import PRESTART_HOOK, nvidia
from cdi_base import RUNTIME as SHIM
from cdi_gen import engines
from cdi_gen.cli import Group, console, engine_changes
from cdi_gen.cli.host_options import PROGRAM, TEXT
from cdi_gen.cli.output import aligned, print_data
from cdi_gen.engines import runtimes
from cdi_gen.engines.change import pending_change
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
from cdi_gen.engines.plan import Request, Runtime
from cdi_gen.engines.status import EngineStatus
from cdi_gen.errors import UsageError
from cdi_gen.host import hook_program
from cdi_gen.paths import printable

F = TypeVar("F", bound=Callable[..., Any])

RUNTIME, HOOK = nvidia.RUNTIME, nvidia.PRESTART_HOOK
"""The names of nvidia-container-toolkit; ``cdi-gen hook install`` can create links with them."""
OURS = {RUNTIME: SHIM, HOOK: PRESTART_HOOK}

COLUMNS = ("ENGINE", "VERSION", "MODE", "CDI", "UP TO", "SPEC DIRECTORIES", "NVIDIA RUNTIME")


@click.group("engine", cls=Group)
def command() -> None:
    """List container engines, and configure them for CDI devices."""


@command.command("list", short_help="List the installed engines and their support of CDI.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_(*, as_json: bool) -> None:
    """List the installed engines, their spec directories and their support of CDI.

    The list has the engines of the system, and for an ordinary user also the user's own rootless
    engines. The daemons need not run.
    """
    statuses = engines.statuses(Machine())
    if as_json:
        import json  # noqa: PLC0415

        print_data(json.dumps([_document(status) for status in statuses], indent=2) + "\n")
        return
    if not statuses:
        console.note(f"no supported engine is installed; supported: {', '.join(engines.NAMES)}")
        return
    print_data(aligned([COLUMNS, *(_cells(status) for status in statuses)]))
    for status in statuses:
        for finding in status.findings:
            console.report(finding)


def _changing(command: F) -> F:
    """Add the options that `configure` and `unconfigure` share."""
    options = (
        click.argument("engine", metavar="ENGINE", type=click.Choice(engines.NAMES)),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Print the changes and write nothing; the exit code is 5 if there are changes.",
        ),
        click.option(
            "--config",
            "configuration",
            type=PROGRAM,
            help="The engine's configuration file.  [default: the engine's own default]",
        ),
        click.option(
            "--drop-in",
            type=PROGRAM,
            help="The drop-in file to write, for engines with drop-in files.  [default: "
            "99-nvidia.* in the engine's directory]",
        ),
        click.option(
            "--rootless",
            is_flag=True,
            help="Configure this user's own engine, and add the spec directory "
            "$XDG_RUNTIME_DIR/cdi.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@command.command("configure", short_help="Configure an engine for CDI devices.")
@_changing
@click.option(
    "--runtime-name",
    "--nvidia-runtime-name",
    type=TEXT,
    default="nvidia",
    show_default=True,
    help="Name of the runtime, for docker run --runtime=NAME.",
)
@click.option(
    "--executable-path",
    "executable",
    type=PROGRAM,
    help="containerd only: the program that reads --config; its version decides what is written.  "
    "[default: the running one, the distribution's, or the one in PATH]",
)
@click.option(
    "--cdi/--no-cdi",
    default=True,
    help="Enable CDI, for engines in which CDI is not enabled by default.  [default: yes]",
)
@click.option(
    "--runtime/--no-runtime",
    "register_runtime",
    default=None,
    help="Register the runtime shim, for --runtime=nvidia.  [default: only with --runtime-path or "
    "--set-as-default]",
)
@click.option(
    "--runtime-path",
    "--nvidia-runtime-path",
    type=PROGRAM,
    help=f"Path of the runtime shim.  [default: the installed {RUNTIME}]",
)
@click.option(
    "--set-as-default",
    "--nvidia-set-as-default",
    "default",
    is_flag=True,
    help="Use the runtime shim also for containers that request no runtime.",
)
@click.option(
    "--oci-hook",
    is_flag=True,
    help="podman only: run the prestart hook for each container; for versions without CDI.",
)
@click.option(
    "--runtime-hook-path",
    "--nvidia-runtime-hook-path",
    "hook_path",
    type=PROGRAM,
    help=f"With --oci-hook: path of the prestart hook.  [default: the installed {HOOK}]",
)
def configure(
    *,
    engine: str,
    dry_run: bool,
    configuration: str | None,
    drop_in: str | None,
    rootless: bool,
    runtime_name: str,
    executable: str | None,
    cdi: bool,
    register_runtime: bool | None,
    runtime_path: str | None,
    default: bool,
    oci_hook: bool,
    hook_path: str | None,
) -> int:
    """Configure an engine for CDI devices; with --runtime also register the runtime shim.

    ENGINE is docker, containerd, crio, podman, nerdctl or buildah.

    Only the necessary keys change, in a drop-in file if the engine has drop-in files. The original
    file is kept as FILE.cdi-gen.bak, the file before the last change as FILE.cdi-gen.last.bak, and
    FILE.cdi-gen.json records the changes. No daemon is restarted; the command for that is printed.
    """
    machine = _machine(rootless=rootless)
    if executable:
        machine.check_program(executable)
    if not runtimes.NAME.fullmatch(runtime_name) or runtime_name in runtimes.RESERVED:
        raise UsageError(
            f"--runtime-name: {runtime_name!r} is invalid or reserved", code="CDG-U001"
        )
    if register_runtime is False and (runtime_path or default):
        raise UsageError(
            "--no-runtime conflicts with --runtime-path and --set-as-default", code="CDG-U002"
        )
    runtime = None
    if register_runtime or runtime_path or default:
        runtime = Runtime(runtime_name, _program(RUNTIME, runtime_path, machine), default)
    hook = _program(HOOK, hook_path, machine) if oci_hook else None
    request = Request(
        cdi=cdi,
        runtime=runtime,
        runtime_name=runtime_name,
        configuration=configuration,
        drop_in=drop_in,
        executable=executable,
        rootless=rootless,
        hook=hook,
    )
    plan = engines.engine(engine).plan(request, machine)
    for finding in plan.findings:
        console.report(finding)
    if plan.manual:
        return engine_changes.print_manual_edit(plan.manual, plan.restart)
    pending = [file for change in plan.changes if (file := pending_change.applied(change, machine))]
    return engine_changes.carry_out(engine, pending, plan.restart, machine, dry_run=dry_run)


@command.command("unconfigure", short_help="Revert what `configure` did.")
@_changing
@click.option(
    "--runtime-name",
    "--nvidia-runtime-name",
    type=TEXT,
    help="Unregister only the runtime of this name.  [default: all runtimes that configure "
    "registered]",
)
def unconfigure(
    *,
    engine: str,
    dry_run: bool,
    configuration: str | None,
    drop_in: str | None,
    rootless: bool,
    runtime_name: str | None,
) -> int:
    """Revert the changes of configure, and nothing else.

    ENGINE is docker, containerd, crio, podman, nerdctl or buildah.

    A file that only cdi-gen has changed is restored byte for byte. In a file with other changes,
    only the values that cdi-gen has recorded in FILE.cdi-gen.json, and that still are as written,
    are reverted. The previous file is kept as FILE.cdi-gen.last.bak.
    """
    machine = _machine(rootless=rootless)
    # The hook's file is removed too, for any program in it.
    hook = "" if engine == "podman" and not rootless else None
    request = Request(
        runtime_name=runtime_name,
        configuration=configuration,
        drop_in=drop_in,
        rootless=rootless,
        hook=hook,
        revert=True,
    )
    plan = engines.engine(engine).plan(request, machine)
    # In reverse order: a configuration that names a launcher is reverted before the launcher.
    files = [
        file
        for change in reversed(plan.changes)
        if (file := pending_change.reverted(change, runtime_name, machine))
    ]
    for file in files:
        for finding in file.kept:
            console.report(finding)
    pending = [file for file in files if file.text != file.file.text]
    return engine_changes.carry_out(engine, pending, plan.restart, machine, dry_run=dry_run)


def _machine(*, rootless: bool) -> Machine:
    machine = Machine()
    if rootless and machine.uid == 0:
        raise UsageError(
            "--rootless: run the command as the user of the engine, not as root", code="CDG-U002"
        )
    return machine


def _program(name: str, path: str | None, machine: Machine) -> str:
    """Return the path of a program that an engine runs as root.

    Raises:
        UnsafeError: a user other than root could change the program.
    """
    program = (
        path
        or machine.find_program(name, USUAL_DIRECTORIES)
        or machine.find_program(OURS[name], hook_program.DIRECTORIES)
        or f"/usr/bin/{name}"
    )
    machine.check_program(program)
    if not os.path.exists(program):
        console.warning(
            f"{program} does not exist yet",
            code="CDG-E111",
            hint=f"install the program with: sudo cdi-gen hook install --{name}",
        )
    return program


def _document(status: EngineStatus) -> dict[str, Any]:
    return {
        "engine": status.engine,
        "program": status.program,
        "version": status.version,
        "rootless": status.rootless,
        "cdi": status.cdi,
        "newestCdiVersion": status.newest_cdi_version,
        "specDirectories": list(status.spec_directories),
        "source": status.source,
        "runtimes": dict(status.runtimes),
        "notes": [finding.message for finding in status.findings],
        "findings": [finding.fields() for finding in status.findings],
    }


def _cells(status: EngineStatus) -> tuple[str, ...]:
    cells = (
        status.engine,
        status.version,
        "rootless" if status.rootless else "rootful",
        status.cdi,
        status.newest_cdi_version,
        ":".join(status.spec_directories),
        ", ".join(name for name, _ in status.runtimes),
    )
    return tuple(printable(cell) if cell else "-" for cell in cells)
