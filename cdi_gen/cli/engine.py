# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen engine``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cdi_gen import engines
from cdi_gen.cli import console
from cdi_gen.cli.host_options import PROGRAM, TEXT
from cdi_gen.cli.output import aligned, print_data
from cdi_gen.engines import runtimes
from cdi_gen.engines.change import configuration_file, pending_change
from cdi_gen.engines.change.configuration_file import ConfigurationFile
from cdi_gen.engines.change.pending_change import Pending
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
from cdi_gen.engines.plan import ByHand, Finding, Runtime, Wishes
from cdi_gen.errors import CdiGenError, ExitCode, UsageError
from cdi_gen.host import hook_program
from cdi_gen.paths import printable

F = TypeVar("F", bound=Callable[..., Any])

RUNTIME = "nvidia-container-runtime"
HOOK = "nvidia-container-runtime-hook"
"""As they are linked by ``cdi-gen hook install``, and as nvidia-container-toolkit has them."""
OURS = {RUNTIME: "cdi-gen-runtime", HOOK: "cdi-gen-runtime-hook"}

COLUMNS = ("ENGINE", "VERSION", "MODE", "CDI", "UP TO", "SPEC DIRECTORIES", "NVIDIA RUNTIME")


@click.group("engine")
def command() -> None:
    """List container engines, and have them take CDI devices."""


@command.command("list", short_help="List the engines that are installed, and how they take CDI.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(*, as_json: bool) -> None:
    """List the engines that are installed: where they look for specs, and what they take.

    What this user has: root the machine's engines, another user its own as well. No daemon needs to
    run.
    """
    machine = Machine()
    found = [each for name in engines.NAMES for each in engines.engine(name).findings(machine)]
    if as_json:
        import json  # noqa: PLC0415

        print_data(json.dumps([_described(each) for each in found], indent=2) + "\n")
        return
    if not found:
        console.note(f"none of {', '.join(engines.NAMES)} is installed")
        return
    print_data(aligned([COLUMNS, *(_cells(each) for each in found)]))
    for each in found:
        for note in each.notes:
            console.note(f"{each.engine}: {note}")


def _changing(command: F) -> F:
    """Add what `configure` and `unconfigure` both take."""
    options = (
        click.argument("engine", metavar="ENGINE", type=click.Choice(engines.NAMES)),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Show what would change and write nothing; exit code 5 if something would.",
        ),
        click.option(
            "--config",
            "configuration",
            type=PROGRAM,
            help="The engine's configuration file.  [default: the usual one]",
        ),
        click.option(
            "--drop-in",
            type=PROGRAM,
            help="The file that is added to the configuration, where the engine has such.  "
            "[default: 99-nvidia.* in the usual directory]",
        ),
        click.option(
            "--rootless",
            is_flag=True,
            help="This user's own engine, with $XDG_RUNTIME_DIR/cdi as a spec directory too.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@command.command("configure", short_help="Have an engine take CDI devices.")
@_changing
@click.option(
    "--runtime-name",
    "--nvidia-runtime-name",
    type=TEXT,
    default="nvidia",
    show_default=True,
    help="The runtime's name: docker run --runtime=NAME.",
)
@click.option(
    "--executable-path",
    "executable",
    type=PROGRAM,
    help="containerd: the program that reads --config, whose version counts.  [default: the one "
    "that runs with it, that its distribution brings, or in PATH]",
)
@click.option(
    "--cdi/--no-cdi",
    default=True,
    show_default=True,
    help="Switch CDI on, where the engine does not have it on by itself.",
)
@click.option(
    "--runtime/--no-runtime",
    "wanted",
    default=None,
    help="Register the runtime shim, for --runtime=nvidia.  [default: only if one of the next two "
    "options is given]",
)
@click.option(
    "--runtime-path",
    "--nvidia-runtime-path",
    type=PROGRAM,
    help=f"The shim.  [default: the installed {RUNTIME}]",
)
@click.option(
    "--set-as-default",
    "--nvidia-set-as-default",
    "default",
    is_flag=True,
    help="Give it to containers that ask for no runtime, too.",
)
@click.option(
    "--oci-hook",
    is_flag=True,
    help="podman: have the prestart hook run for every container; for versions without CDI.",
)
@click.option(
    "--runtime-hook-path",
    "--nvidia-runtime-hook-path",
    "hook_path",
    type=PROGRAM,
    help=f"With --oci-hook: the prestart hook.  [default: the installed {HOOK}]",
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
    wanted: bool | None,
    runtime_path: str | None,
    default: bool,
    oci_hook: bool,
    hook_path: str | None,
) -> int:
    """Have an engine take CDI devices, and with --runtime register the runtime shim.

    ENGINE is docker, containerd, crio, podman, nerdctl or buildah.

    Only these keys change, in a file of their own where the engine has such. What was there before
    is kept as FILE.cdi-gen.bak, and what was there before the last change as FILE.cdi-gen.last.bak;
    FILE.cdi-gen.json has what was written. No daemon is restarted: the command to do so is printed.
    """
    machine = _machine(rootless=rootless)
    if executable:
        machine.check_program(executable)
    if not runtimes.NAME.fullmatch(runtime_name) or runtime_name in runtimes.TAKEN:
        raise UsageError(f"--runtime-name: {runtime_name!r} cannot be the name of a runtime")
    if wanted is False and (runtime_path or default):
        raise UsageError("--no-runtime, and an option of the runtime")
    runtime = None
    if wanted or runtime_path or default:
        runtime = Runtime(runtime_name, _program(RUNTIME, runtime_path, machine), default)
    hook = _program(HOOK, hook_path, machine) if oci_hook else None
    wishes = Wishes(
        cdi=cdi,
        runtime=runtime,
        runtime_name=runtime_name,
        configuration=configuration,
        drop_in=drop_in,
        executable=executable,
        rootless=rootless,
        hook=hook,
    )
    plan = engines.engine(engine).plan(wishes, machine)
    for note in plan.notes:
        console.note(note)
    for warning in plan.warnings:
        console.warning(warning, code="CDG-E105")
    if plan.by_hand:
        return _by_hand(plan.by_hand, plan.restart)
    pending = [each for change in plan.changes if (each := pending_change.made(change, machine))]
    return _carry_out(engine, pending, plan.restart, machine, dry_run=dry_run)


@command.command("unconfigure", short_help="Take back what `configure` did.")
@_changing
@click.option(
    "--runtime-name",
    "--nvidia-runtime-name",
    type=TEXT,
    help="Of the runtimes, only the one of this name.  [default: all that configure registered]",
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
    """Take back what configure did, and nothing else.

    ENGINE is docker, containerd, crio, podman, nerdctl or buildah.

    A file that nobody else has changed since is again what it was, byte for byte. In another one
    only that goes which is recorded beside it as written by cdi-gen, and is still as it was
    written. What was there before is kept as FILE.cdi-gen.last.bak.
    """
    machine = _machine(rootless=rootless)
    # The hook's file goes too, whichever program it names.
    hook = "" if engine == "podman" and not rootless else None
    wishes = Wishes(
        runtime_name=runtime_name,
        configuration=configuration,
        drop_in=drop_in,
        rootless=rootless,
        hook=hook,
        back=True,
    )
    plan = engines.engine(engine).plan(wishes, machine)
    # First what names a launcher, then the launcher.
    undone = [
        pending_change.undone(change, runtime_name, machine) for change in reversed(plan.changes)
    ]
    found = [each for each in undone if each]
    for each in found:
        for left in each.left:
            console.note(f"{each.file.path}: {left}")
    pending = [each for each in found if each.text != each.file.text]
    return _carry_out(engine, pending, plan.restart, machine, dry_run=dry_run)


def _by_hand(hand: ByHand, restart: str | None) -> int:
    """Say what is to be written where cdi-gen writes nothing."""
    if hand.text is None:
        console.note(f"{hand.path} {hand.why}, and nothing is to be written for CDI devices")
        return ExitCode.OK
    print_data(hand.text)
    then = f"; then: {restart}" if restart else ""
    raise CdiGenError(
        f"{hand.path} {hand.why}: nothing is written",
        hint=f"add what is printed to {hand.where}{then}",
    )


def _carry_out(
    engine: str,
    pending: list[Pending],
    restart: str | None,
    machine: Machine,
    *,
    dry_run: bool,
) -> int:
    """Write the files, or show what would be written; say what the engine needs then."""
    if not pending:
        console.note(f"{engine}: nothing to change")
        return ExitCode.OK
    for each in pending:
        configuration_file.check(each.file.path, trusted=machine.trusted)
    if dry_run:
        print_data("".join(_difference(each) for each in pending))
        console.note("dry run, nothing written")
        return ExitCode.STALE
    for each in pending:
        file, text = each.file, each.text
        _warn(file, machine)
        backup = configuration_file.replace(file, text, each.record, first=each.first)
        if not each.record.steps:
            configuration_file.remove_backup(file, text)
        done = "removed" if text is None else "wrote" if file.data is None else "changed"
        kept = f"; {'as it was' if each.first else 'backup'}: {backup}" if backup else ""
        console.note(f"{done} {file.path}{kept}")
    if restart:
        console.note(f"{engine} reads it when it starts: {restart}")
    return ExitCode.OK


def _warn(file: ConfigurationFile, machine: Machine) -> None:
    if file.names > 1:
        console.warning(
            f"{file.path} has {file.names} names (hard links): only this one is changed",
            code="CDG-E109",
        )
    if fault := file.fault(machine.trusted):
        console.warning(
            f"{file.path} {fault}: a user who can edit it can run programs as root",
            hint="give it to root alone (root:root, mode 0644)",
            code="CDG-E110",
        )


def _difference(each: Pending) -> str:
    """What would change in a file, as a unified diff."""
    import difflib  # noqa: PLC0415

    old, new = ((text or "").splitlines(keepends=True) for text in (each.file.text, each.text))
    path = each.file.path
    from_name = os.devnull if each.file.text is None else path
    to_name = os.devnull if each.text is None else f"{path} (new)"
    lines = difflib.unified_diff(old, new, from_name, to_name)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _machine(*, rootless: bool) -> Machine:
    machine = Machine()
    if rootless and machine.uid == 0:
        raise UsageError("--rootless: run it as the user whose engine it is")
    return machine


def _program(name: str, path: str | None, machine: Machine) -> str:
    """The program that an engine is to run as root: nobody else may change it.

    Raises:
        UnsafeError: somebody could.
    """
    found = (
        path
        or machine.found(name, USUAL_DIRECTORIES)
        or machine.found(OURS[name], hook_program.DIRECTORIES)
        or f"/usr/bin/{name}"
    )
    machine.check_program(found)
    if not os.path.exists(found):
        console.warning(
            f"{found} does not exist yet",
            code="CDG-E111",
            hint=f"install it: sudo cdi-gen hook install --{name}",
        )
    return found


def _described(found: Finding) -> dict[str, Any]:
    return {
        "engine": found.engine,
        "program": found.program,
        "version": found.version,
        "rootless": found.rootless,
        "cdi": found.cdi,
        "newestCdiVersion": found.newest_cdi_version,
        "specDirectories": list(found.spec_directories),
        "source": found.source,
        "runtimes": dict(found.runtimes),
        "notes": list(found.notes),
    }


def _cells(found: Finding) -> tuple[str, ...]:
    cells = (
        found.engine,
        found.version,
        "rootless" if found.rootless else "rootful",
        found.cdi,
        found.newest_cdi_version,
        ":".join(found.spec_directories),
        ", ".join(name for name, _ in found.runtimes),
    )
    return tuple(printable(cell) if cell else "-" for cell in cells)
