# SPDX-License-Identifier: Apache-2.0
"""Reverts the recorded changes of a configuration file.

If only our writes changed the file, its old text is restored byte for byte. Otherwise the file is
reverted value by value. A value that another program has changed since is kept, and so is a value
that another setting needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from cdi_gen.engines.change.record import UNKNOWN, Record, Step, Value, digest
from cdi_gen.engines.text.syntax import Syntax

Keep = Callable[[Value, "str | None"], "str | None"]
"""Returns why one of our values must be kept, given the text of the file without the value; None
if it need not be kept. An empty reason is not reported."""


class Reverted(NamedTuple):
    """A file after the revert."""

    text: str | None
    """The new text; None: the file is removed."""
    record: Record
    """The record of the changes that the new text still has."""
    kept: tuple[str, ...] = ()
    """Values that were not reverted, and why."""


def revert(
    text: str,
    record: Record,
    syntax: Syntax | None,
    *,
    before: tuple[str | None] | None,
    keep: Keep,
) -> Reverted:
    """Revert the changes of a record.

    Args:
        text: the text of the file.
        record: a record with at least one step.
        syntax: the syntax of the file; None for a file that is written as a whole.
        before: the text before the first step; None if it is unknown.
        keep: the function that decides which values must be kept.
    """
    values = [value for step in reversed(record.steps) for value in reversed(step.values)]
    is_untouched = before is not None and record.is_all(digest(text.encode()))
    if is_untouched and before is not None:
        reasons = _reasons(values, before[0], keep)
        if not reasons:
            return Reverted(before[0], Record())
    elif syntax is None:
        return Reverted(text, record, ("another program has changed the file since: kept",))
    else:
        reasons = {}
    if syntax is None:
        return Reverted(text, record, _reported(reasons))
    new_text, changed = _without(text, values, syntax, reasons)
    more_reasons = _reasons(values, new_text, keep)
    if more_reasons:
        reasons |= more_reasons
        new_text, changed = _without(text, values, syntax, reasons)
    remaining = Record()
    if reasons:
        kept = tuple(_last(value, values) for value in reversed([*reasons]))
        step = Step(UNKNOWN, digest(new_text.encode()), kept)
        remaining = Record((step,))
    is_gone = record.steps[0].before is None and not reasons and syntax.is_empty(new_text)
    return Reverted(None if is_gone else new_text, remaining, (*changed, *_reported(reasons)))


def _last(value: Value, values: Iterable[Value]) -> Value:
    """A kept value of a table that we created; a later revert removes the table with it."""
    above = [other.above for other in values if other.path[:-1] == value.path[:-1]]
    return value._replace(above=min(above))


def _reported(reasons: dict[Value, str]) -> tuple[str, ...]:
    return tuple(filter(None, dict.fromkeys(reasons.values())))


def _reasons(values: Iterable[Value], text: str | None, keep: Keep) -> dict[Value, str]:
    reasons = {value: keep(value, text) for value in values}
    return {value: reason for value, reason in reasons.items() if reason is not None}


def _without(
    text: str, values: Iterable[Value], syntax: Syntax, reasons: dict[Value, str]
) -> tuple[str, list[str]]:
    """The text without our values, except the kept ones; and a reason for each changed value."""
    changed: dict[str, str] = {}
    for value in values:
        if value in reasons:
            continue
        written = syntax.find(text, value.path)
        if written is None:
            continue
        current, ours = syntax.value(written), syntax.value(value.now)
        was = syntax.value(value.was) if value.was is not None else None
        if current == ours and value.was is not None:
            text = syntax.put(text, value.path, value.was)
        elif current == ours:
            text = syntax.remove(text, value.path, value.above)
        elif isinstance(current, list) and isinstance(ours, list):
            earlier = was if isinstance(was, list) else []
            entries = [entry for entry in current if entry not in ours or entry in earlier]
            if entries or value.was is not None:
                text = syntax.put(text, value.path, syntax.written(entries))
            else:
                text = syntax.remove(text, value.path, value.above)
        elif current != was:
            name = ".".join(value.path)
            changed[name] = f"another program has changed {name} since: kept"
    return text, [*changed.values()]
