# SPDX-License-Identifier: Apache-2.0
"""The record of our changes to a configuration file, in the order of writing.

A file does not say which program set a value. So each of our writes adds a step to a record beside
the file: digests of the file before and after the write, the values that were set, and the values
that they replaced. A value that is in no step is not ours, whatever its name is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cdi_base import strict_json
from cdi_gen.engines.text.syntax import Path, Syntax

VERSION = 1

UNKNOWN = ""
"""Instead of a digest: the file never had this content, with all changes of others and none of
ours."""


class RecordError(Exception):
    """The text is not a record of this version."""


class Value(NamedTuple):
    """A value that was set."""

    path: Path
    was: str | None
    """The replaced value in the file's syntax; None if there was none."""
    now: str
    above: int
    """The number of tables above the value that existed before."""


class Step(NamedTuple):
    """One write."""

    before: str | None
    """The digest of the file; None if there was no file."""
    after: str | None
    values: tuple[Value, ...] = ()


class Record(NamedTuple):
    """All writes to a file."""

    steps: tuple[Step, ...] = ()

    def as_far_as(self, file: str | None) -> Record:
        """The record without steps that a file does not have: a write that failed or was undone.

        Args:
            file: the digest of the file.
        """
        for number, step in enumerate(self.steps):
            if step.before == file != step.after:
                return Record(self.steps[:number])
        return self

    def is_all(self, file: str | None) -> bool:
        """Whether only our writes have changed the file.

        Args:
            file: the digest of the file.
        """
        ends = [step.after for step in self.steps]
        begins = [step.before for step in self.steps[1:]]
        return bool(ends) and ends == [*begins, file]

    def with_step(
        self, syntax: Syntax | None, before: str | None, after: str | None, paths: Sequence[Path]
    ) -> Record:
        """The record with one more write.

        Args:
            syntax: the syntax of the file; None for a file that is written as a whole.
            before: the old text of the file.
            after: the new text of the file.
            paths: the paths at which a value may be set.
        """
        values = tuple(_set(syntax, before, after, paths)) if syntax else ()
        step = Step(digest(_bytes(before)), digest(_bytes(after)), values)
        return Record((*self.steps, step))

    def text(self) -> str:
        """The JSON text of the record."""
        steps = [
            {**step._asdict(), "values": [value._asdict() for value in step.values]}
            for step in self.steps
        ]
        return json.dumps({"version": VERSION, "steps": steps}, indent=1) + "\n"


def digest(data: bytes | None) -> str | None:
    """The digest of a file's content; None if there is no file."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def read(data: bytes) -> Record:
    """The record in a JSON text.

    Raises:
        RecordError: the text is not a record, or a record of a later version.
    """
    try:
        document: Any = strict_json.parse(data)
        if document["version"] != VERSION:
            raise RecordError(f"a record of version {document['version']!r}")
        return Record(tuple(_step(step) for step in document["steps"]))
    except (ValueError, LookupError, TypeError):
        raise RecordError("not a record of cdi-gen") from None


def _step(step: dict[str, Any]) -> Step:
    values = [
        Value(
            tuple(map(_text, value["path"])),
            _text(value["was"], or_none=True),
            _text(value["now"]),
            _count(value["above"]),
        )
        for value in step["values"]
    ]
    before, after = (_text(step[name], or_none=True) for name in ("before", "after"))
    return Step(before, after, tuple(values))


def _text(value: Any, *, or_none: bool = False) -> Any:
    if not isinstance(value, str) and not (or_none and value is None):
        raise TypeError(value)
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(value)
    return value


def _set(
    syntax: Syntax, before: str | None, after: str | None, paths: Sequence[Path]
) -> Iterator[Value]:
    for path in paths:
        now = syntax.find(after or "", path)
        was = syntax.find(before or "", path)
        if now is not None and (was is None or syntax.value(now) != syntax.value(was)):
            above = sum(
                syntax.find(before or "", path[:length]) is not None
                for length in range(1, len(path))
            )
            yield Value(path, was, now, above)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
