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
    """A file, and the text that it is to have; None if it is to be removed."""

    file: ConfigurationFile
    text: str | None
    record: Record
    """Of our changes that are in it then."""
    first: bool = False
    """Whether no change in it is ours yet."""
    kept: tuple[Finding, ...] = ()
    """What is not reverted, and why."""


def applied(change: Change, machine: Machine) -> Pending | None:
    """The file of a change after it; None if the change alters nothing.

    Raises:
        CdiGenError: the file, or the record of it, cannot be read, or the file cannot be edited.
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
    """The file of a change without what is recorded as ours; None if it does not exist.

    Args:
        change: the change that was made, or would be.
        runtime_name: the only runtime to remove; None: every one that is ours.
        machine: the machine.

    Raises:
        CdiGenError: the file, or the record of it, cannot be read, or the file cannot be edited.
    """
    file = configuration_file.read(change.path)
    if file.text is None:
        return None
    with _path_in_errors(change.path):
        if change.syntax:
            change.syntax.check(file.text)
    record = configuration_file.recorded(file, trusted=machine.trusted)
    if not record.steps:
        message = f"{file.path}: no record of a change by cdi-gen: the file is kept as it is"
        finding = Finding("CDG-E006", "info", message, subject=file.path)
        return Pending(file, file.text, record, kept=(finding,))
    old_file = configuration_file.before_us(file, record)

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
    except ValueError:  # the record has a value that is not of the file's language
        raise configuration_file.no_record(file, "not a record of cdi-gen") from None
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
        message = f"{path}: {error.message}; it is unchanged"
        raise CdiGenError(message, hint=hint, code=error.code, subject=path) from error
