# SPDX-License-Identifier: Apache-2.0
"""What a change makes of the file that is there, and what is to be recorded of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cdi_gen.engines import runtimes
from cdi_gen.engines.change import configuration_file
from cdi_gen.engines.change.configuration_file import ConfigurationFile
from cdi_gen.engines.change.record import Record, Value
from cdi_gen.engines.change.reversal import taken_back
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change
from cdi_gen.errors import CdiGenError


class Pending(NamedTuple):
    """A file, and the text that it is to have; None if it is to go."""

    file: ConfigurationFile
    text: str | None
    record: Record
    """Of what is ours in it then."""
    first: bool = False
    """Whether nothing of it is ours yet."""
    left: tuple[str, ...] = ()
    """What is not taken back, and why."""


def made(change: Change, machine: Machine) -> Pending | None:
    """What a change makes of its file; None where the file is so already.

    Raises:
        CdiGenError: the file, or the record of it, cannot be read, or be changed so.
    """
    file = configuration_file.read(change.path)
    record = configuration_file.recorded(file, trusted=machine.trusted)
    with _naming(change.path):
        text = change.make(file.text)
        if text == file.text:
            return None
        after = record.with_step(change.syntax, file.text, text, change.paths)
    if file.data is None:
        file = file._replace(mode=change.mode)
    return Pending(file, text, after, first=not record.steps)


def undone(change: Change, name: str | None, machine: Machine) -> Pending | None:
    """What the file of a change is without what is recorded as ours; None where there is none.

    Args:
        change: what was made, or would be.
        name: of the runtime that is to go; None: of every one that is ours.
        machine: where it is.

    Raises:
        CdiGenError: the file, or the record of it, cannot be read, or be changed so.
    """
    file = configuration_file.read(change.path)
    if file.text is None:
        return None
    with _naming(change.path):
        if change.syntax:
            change.syntax.check(file.text)
    record = configuration_file.recorded(file, trusted=machine.trusted)
    if not record.steps:
        nothing = ("no record of a change by cdi-gen, so all of it stays",)
        return Pending(file, file.text, record, left=nothing)
    was = configuration_file.before_us(file, record)

    def stays(value: Value, made: str | None) -> str | None:
        if name is not None and runtimes.of_another(value, change.syntax, name):
            return ""
        return change.stays(value, made)

    try:
        with _naming(change.path):
            found = taken_back(
                file.text,
                record,
                change.syntax,
                before=None if was is None else (was.text,),
                stays=stays,
            )
    except ValueError:  # of a value that no language of ours has written
        raise configuration_file.no_record(file, "no record of cdi-gen's") from None
    return Pending(file, found.text, found.record, left=found.left)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Have an error about a text say which file it is in."""
    try:
        yield
    except CdiGenError as error:
        hint = error.hint or "put it right, and run the command again"
        raise CdiGenError(f"{path}: {error.message}; it is as it was", hint=hint) from error
