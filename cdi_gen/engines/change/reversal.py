# SPDX-License-Identifier: Apache-2.0
"""A configuration file without what is recorded as ours, and with what it replaced.

Where nobody else has written to it, it is what it was, byte for byte. Else value by value: one
that is no more what we wrote is left, and so is one that something else needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from cdi_gen.engines.change.record import UNKNOWN, Record, Step, Value, digest
from cdi_gen.engines.text.syntax import Syntax

Stays = Callable[[Value, "str | None"], "str | None"]
"""Why a value must stay in a file that is to be without it. None if it need not; of an empty
reason nothing is said."""


class TakenBack(NamedTuple):
    """What becomes of a file."""

    text: str | None
    """None is no file."""
    record: Record
    """What is ours in it still."""
    left: tuple[str, ...] = ()
    """What was not taken back, and why."""


def taken_back(
    text: str,
    record: Record,
    syntax: Syntax | None,
    *,
    before: tuple[str | None] | None,
    stays: Stays,
) -> TakenBack:
    """Take back what a record has.

    Args:
        text: of the file.
        record: of at least one step.
        syntax: of the file; None of one that is written as a whole.
        before: what it was before the first step; None where that is not known.
        stays: what must stay.
    """
    values = [value for step in reversed(record.steps) for value in reversed(step.values)]
    untouched = before is not None and record.is_all(digest(text.encode()))
    if untouched and before is not None:
        staying = _staying(values, before[0], stays)
        if not staying:
            return TakenBack(before[0], Record())
    elif syntax is None:
        return TakenBack(text, record, ("it has been changed since: it stays",))
    else:
        staying = {}
    if syntax is None:
        return TakenBack(text, record, _said(staying))
    made, changed = _without(text, values, syntax, staying)
    more = _staying(values, made, stays)
    if more:
        staying |= more
        made, changed = _without(text, values, syntax, staying)
    left = Record()
    if staying:
        kept = tuple(_last(value, values) for value in reversed([*staying]))
        step = Step(UNKNOWN, digest(made.encode()), kept)
        left = Record((step,))
    gone = record.steps[0].before is None and not staying and syntax.is_empty(made)
    return TakenBack(None if gone else made, left, (*changed, *_said(staying)))


def _last(value: Value, values: Iterable[Value]) -> Value:
    """A value that is left of several in a table: if another of them made that, it goes with it."""
    beside = [each.above for each in values if each.path[:-1] == value.path[:-1]]
    return value._replace(above=min(beside))


def _said(staying: dict[Value, str]) -> tuple[str, ...]:
    return tuple(filter(None, dict.fromkeys(staying.values())))


def _staying(values: Iterable[Value], made: str | None, stays: Stays) -> dict[Value, str]:
    reasons = {value: stays(value, made) for value in values}
    return {value: reason for value, reason in reasons.items() if reason is not None}


def _without(
    text: str, values: Iterable[Value], syntax: Syntax, staying: dict[Value, str]
) -> tuple[str, list[str]]:
    """The text without values, the last that was set first; and which of them were changed."""
    changed: dict[str, str] = {}
    for value in values:
        if value in staying:
            continue
        found = syntax.find(text, value.path)
        if found is None:
            continue
        said, ours = syntax.value(found), syntax.value(value.now)
        was = syntax.value(value.was) if value.was is not None else None
        if said == ours and value.was is not None:
            text = syntax.put(text, value.path, value.was)
        elif said == ours:
            text = syntax.remove(text, value.path, value.above)
        elif isinstance(said, list) and isinstance(ours, list):
            kept = was if isinstance(was, list) else []
            left = [each for each in said if each not in ours or each in kept]
            if left or value.was is not None:
                text = syntax.put(text, value.path, syntax.written(left))
            else:
                text = syntax.remove(text, value.path, value.above)
        elif said != was:
            name = ".".join(value.path)
            changed[name] = f"{name} has been changed since: it stays"
    return text, [*changed.values()]
