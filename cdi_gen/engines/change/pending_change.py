# SPDX-License-Identifier: Apache-2.0
"""Applies a change to the current text of its file, or reverts it; nothing is written yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.engines import runtimes
from cdi_gen.engines.change import configuration_file
from cdi_gen.engines.change.configuration_file import ConfigurationFile
from cdi_gen.engines.change.record import Record, Value
from cdi_gen.engines.change.reversal import revert
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change
from cdi_gen.errors import CdiGenError


class Pending(NamedTuple):
    """A file and its new text; None: the file is removed."""

    file: ConfigurationFile
    text: str | None
    record: Record
    """The record of our changes that the new text has."""
    first: bool = False
    """Whether this is our first change of the file."""
    kept: tuple[Finding, ...] = ()
    """Values that are not reverted, and why."""


def applied(change: Change, machine: Machine) -> Pending | None:
    """The file of a change with the change applied; None if the change alters nothing.

    Raises:
        CdiGenError: the file or its record cannot be read, or the file cannot be edited.
    """
    file = configuration_file.read(change.path)
    record = configuration_file.recorded(file, trusted=machine.trusted)
    with _path_in_errors(change.path):
        text = change.edit(file.text)
        if text == file.text:
            return None
        new_record = record.with_step(change.syntax, file.text, text, change.keys)
    if file.data is None:
        file = file._replace(mode=change.mode)
    return Pending(file, text, new_record, first=not record.steps)


def reverted(change: Change, runtime_name: str | None, machine: Machine) -> Pending | None:
    """The file of a change without the values that are recorded as ours; None without a file.

    Args:
        change: the change that was made, or would be made.
        runtime_name: the only runtime to remove; None: every runtime that is ours.
        machine: the machine.

    Raises:
        CdiGenError: the file or its record cannot be read, or the file cannot be edited.
    """
    file = configuration_file.read(change.path)
    if file.text is None:
        return None
    with _path_in_errors(change.path):
        if change.syntax:
            change.syntax.check(file.text)
    record = configuration_file.recorded(file, trusted=machine.trusted)
    if not record.steps:
        message = f"{file.path}: no change by cdi-gen is recorded, so the file is kept unchanged"
        finding = Finding("CDG-E006", "info", message, subject=file.path)
        return Pending(file, file.text, record, kept=(finding,))
    old_file = configuration_file.original(file, record)

    def keep(value: Value, text: str | None) -> str | None:
        if runtime_name is not None and runtimes.is_of_another_runtime(
            value, change.syntax, runtime_name
        ):
            return ""
        return change.keep(value, text)

    try:
        with _path_in_errors(change.path):
            result = revert(
                file.text,
                record,
                change.syntax,
                before=None if old_file is None else (old_file.text,),
                keep=keep,
            )
    except ValueError:  # the record has a value that is not in the file's syntax
        raise configuration_file.invalid_record(file, "not a record of cdi-gen") from None
    kept = tuple(
        Finding("CDG-E114", "info", f"{file.path}: {reason}", subject=file.path)
        for reason in result.kept
    )
    return Pending(file, result.text, result.record, kept=kept)


@contextmanager
def _path_in_errors(path: str) -> Iterator[None]:
    """Add the path of the file to an error about its text."""
    try:
        yield
    except CdiGenError as error:
        hint = error.hint or "correct the file, and run the command again"
        message = f"{path}: {error.message}; the file is unchanged"
        raise CdiGenError(message, hint=hint, code=error.code, subject=path) from error
