# SPDX-License-Identifier: Apache-2.0
"""Writes or prints the changes that ``cdi-gen engine`` makes to configuration files."""

from __future__ import annotations

import os

from cdi_gen.cli import console
from cdi_gen.cli.output import difference, print_data
from cdi_gen.engines.change import configuration_file, replacement
from cdi_gen.engines.change.configuration_file import ConfigurationFile
from cdi_gen.engines.change.pending_change import Pending
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import ManualEdit
from cdi_gen.errors import CdiGenError, ExitCode


def print_manual_edit(edit: ManualEdit, restart: str | None) -> int:
    """Print the text that the administrator must add to a file that cdi-gen cannot edit.

    Raises:
        CdiGenError: the text has to be added; the hint says where.
    """
    if edit.text is None:
        console.note(f"{edit.path} {edit.reason}, but CDI devices need no change in the file")
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
    """Write the files, or with ``dry_run`` print the changes; return the exit code.

    The command that makes the engine read the files is printed.

    Raises:
        UnsafeError: another user could replace a file.
        CdiGenError: a file has changed since it was read, or cannot be written.
    """
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
        console.note(f"{_verb(file, text)} {file.path}{_backup_note(backup, first=change.first)}")
    if restart:
        console.note(f"{engine} reads the file when it starts: {restart}")
    return ExitCode.OK


def _verb(file: ConfigurationFile, text: str | None) -> str:
    if text is None:
        return "removed"
    return "wrote" if file.data is None else "changed"


def _backup_note(backup: str | None, *, first: bool) -> str:
    """The path of the backup; a backup made before the first change is the original file."""
    if backup is None:
        return ""
    return f"; {'original' if first else 'backup'}: {backup}"


def _warn(file: ConfigurationFile, machine: Machine) -> None:
    if file.names > 1:
        console.warning(
            f"{file.path} has {file.names} hard links: only the file of this name is changed",
            code="CDG-E109",
        )
    if fault := file.fault(machine.trusted):
        console.warning(
            f"{file.path} {fault}: a user who can edit the file can run programs as root",
            hint="correct owner and mode (root:root 0644)",
            code="CDG-E110",
        )


def _difference(change: Pending) -> str:
    path = change.file.path
    return difference(
        change.file.text or "",
        change.text or "",
        os.devnull if change.file.text is None else path,
        os.devnull if change.text is None else f"{path} (new)",
    )
