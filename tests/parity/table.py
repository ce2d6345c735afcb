# SPDX-License-Identifier: Apache-2.0
"""The reviewed table of differences from nvidia-ctk, and its rendering for the reader.

``differences.json`` holds it: a row has a title and a reason for people, and facts by which a
difference is recognised. In a fact ``*`` stands for any text, ``null`` for "not there"; ``in``
lists the reference specs in which it must occur.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.parity.comparison import Difference

DATA = Path(__file__).with_name("differences.json")
START = "<!-- Written by tests/parity from differences.json; change it there. -->\n"
END = "<!-- End of what tests/parity wrote. -->\n"


class Fact(NamedTuple):
    """A pattern for differences."""

    aspect: str
    subject: str
    theirs: str | None
    ours: str | None
    specs: tuple[str, ...]

    def matches(self, difference: Difference) -> bool:
        return (
            difference.aspect == self.aspect
            and _fits(self.subject, difference.subject)
            and _fits(self.theirs, difference.theirs)
            and _fits(self.ours, difference.ours)
        )


class Row(NamedTuple):
    """One difference as a person sees it."""

    group: str
    title: str
    reason: str
    facts: tuple[Fact, ...]


def _fits(pattern: str | None, value: str | None) -> bool:
    if pattern is None or value is None:
        return pattern is value
    return _compiled(pattern).fullmatch(value) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")))


def rows() -> tuple[Row, ...]:
    return tuple(
        Row(
            group=row["group"],
            title=row["title"],
            reason=row["reason"],
            facts=tuple(
                Fact(
                    aspect=fact["aspect"],
                    subject=fact["subject"],
                    theirs=fact["theirs"],
                    ours=fact["ours"],
                    specs=tuple(fact["in"]),
                )
                for fact in row["facts"]
            ),
        )
        for row in json.loads(DATA.read_text(encoding="utf-8"))
    )


def rendered() -> str:
    """The table as Markdown, between its two marks."""
    lines = [START]
    group = ""
    for row in rows():
        if row.group != group:
            group = row.group
            lines.append(f"\n### {group}\n\n")
        lines.append(f"- **{row.title}.** {row.reason}\n")
    return "".join([*lines, "\n", END])
