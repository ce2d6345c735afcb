# SPDX-License-Identifier: Apache-2.0
"""What ``cdi-gen engine`` does with the changes of an engine: it writes them, or shows them."""

from __future__ import annotations

import os

from cdi_gen.cli import console
from cdi_gen.cli.output import print_data
from cdi_gen.engines.change import configuration_file, replacement
from cdi_gen.engines.change.configuration_file import ConfigurationFile
from cdi_gen.engines.change.pending_change import Pending
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import ManualEdit
from cdi_gen.errors import CdiGenError, ExitCode


def print_manual_edit(edit: ManualEdit, restart: str | None) -> int:
    """Print what the administrator has to write in a file that cdi-gen cannot edit."""
    if edit.text is None:
        console.note(f"{edit.path} {edit.reason}, and CDI devices need no change of it")
        return ExitCode.OK
    print_data(edit.text)
    then = f"; then run: {restart}" if restart else ""
    raise CdiGenError(
        f"{edit.path} {edit.reason}: cdi-gen does not change it",
        hint=f"add the printed text to {edit.location}{then}",
        code="CDG-E011",
        subject=edit.path,
    )


def carry_out(
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
    for change in pending:
        configuration_file.check(change.file.path, trusted=machine.trusted)
    if dry_run:
        print_data("".join(_difference(change) for change in pending))
        console.note("dry run, nothing written")
        return ExitCode.STALE
    for change in pending:
        file, text = change.file, change.text
        _warn(file, machine)
        backup = replacement.replace(file, text, change.record, first=change.first)
        if not change.record.steps:
            replacement.remove_backup(file, text)
        console.note(f"{_done(file, text)} {file.path}{_backup_note(backup, first=change.first)}")
    if restart:
        console.note(f"{engine} reads it when it starts: {restart}")
    return ExitCode.OK


def _done(file: ConfigurationFile, text: str | None) -> str:
    if text is None:
        return "removed"
    return "wrote" if file.data is None else "changed"


def _backup_note(backup: str | None, *, first: bool) -> str:
    """Name the backup; that from before our first change has the file as its author made it."""
    if backup is None:
        return ""
    return f"; {'original' if first else 'backup'}: {backup}"


def _warn(file: ConfigurationFile, machine: Machine) -> None:
    if file.names > 1:
        console.warning(
            f"{file.path} has {file.names} names (hard links): only this name gets the change",
            code="CDG-E109",
        )
    if fault := file.fault(machine.trusted):
        console.warning(
            f"{file.path} {fault}: a user who can edit it can run programs as root",
            hint="give it to root alone (root:root, mode 0644)",
            code="CDG-E110",
        )


def _difference(change: Pending) -> str:
    """What would change in a file, as a unified diff."""
    import difflib  # noqa: PLC0415

    path = change.file.path
    lines = difflib.unified_diff(
        (change.file.text or "").splitlines(keepends=True),
        (change.text or "").splitlines(keepends=True),
        os.devnull if change.file.text is None else path,
        os.devnull if change.text is None else f"{path} (new)",
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
