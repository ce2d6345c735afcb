# SPDX-License-Identifier: Apache-2.0
"""What was written to a configuration file, in the order of writing: what is ours, and no more.

A file says what is set and not who set it. So each of our writes leaves a step in a record beside
the file: what the file was before and after it (a digest), which values were set, and what they
were before. A value that no step has is not ours, whatever its name is.
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
"""In the place of a digest: there is no state of the file that had all of the others' and none of
ours."""


class RecordError(Exception):
    """It is no record."""


class Value(NamedTuple):
    """A value that was set."""

    path: Path
    was: str | None
    """As the file's language writes it; None where there was none."""
    now: str
    above: int
    """How many tables on the way to it were there before."""


class Step(NamedTuple):
    """One write."""

    before: str | None
    """Digest of the file; None where there was none."""
    after: str | None
    values: tuple[Value, ...] = ()


class Record(NamedTuple):
    """All writes to a file."""

    steps: tuple[Step, ...] = ()

    def as_far_as(self, file: str | None) -> Record:
        """Less the steps that a file does not have: a write that was not carried out, or undone.

        Args:
            file: its digest.
        """
        for number, step in enumerate(self.steps):
            if step.before == file != step.after:
                return Record(self.steps[:number])
        return self

    def is_all(self, file: str | None) -> bool:
        """Whether the file has had no other change, between our writes and since.

        Args:
            file: its digest.
        """
        ends = [step.after for step in self.steps]
        begins = [step.before for step in self.steps[1:]]
        return bool(ends) and ends == [*begins, file]

    def with_step(
        self, syntax: Syntax | None, before: str | None, after: str | None, paths: Sequence[Path]
    ) -> Record:
        """With one more write.

        Args:
            syntax: of the file; None of one that is written as a whole.
            before: the file's text.
            after: what it becomes.
            paths: where it may be that a value is set.
        """
        values = tuple(_set(syntax, before, after, paths)) if syntax else ()
        step = Step(digest(_bytes(before)), digest(_bytes(after)), values)
        return Record((*self.steps, step))

    def text(self) -> str:
        """As it is written down."""
        steps = [
            {**step._asdict(), "values": [value._asdict() for value in step.values]}
            for step in self.steps
        ]
        return json.dumps({"version": VERSION, "steps": steps}, indent=1) + "\n"


def digest(data: bytes | None) -> str | None:
    """What tells one content of a file from another; None where there is no file."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def read(data: bytes) -> Record:
    """A record that was written down.

    Raises:
        RecordError: it is none, or one of a later version.
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
