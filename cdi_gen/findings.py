# SPDX-License-Identifier: Apache-2.0
"""Reads ``specs/cdi_specs/findings.json``: the meaning, usual cause and fix of each code.

``cdi-gen explain`` and ``docs/findings.md`` are made from the table. Other commands do not read the
table: each error and warning has its code already.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import cdi_specs

PREFIX = "CDG-"


class Explanation(NamedTuple):
    """The entry of a code."""

    code: str
    title: str
    severity: str
    """The usual severity; a single finding may have another one."""
    meaning: str
    cause: str
    """The usual cause; empty if the meaning contains it."""
    fix: str

    @property
    def area(self) -> str:
        """The letter after the prefix: the part of cdi-gen that the code belongs to."""
        return self.code.removeprefix(PREFIX)[0]


def areas() -> dict[str, str]:
    """Return the title of each area by its letter, in the order of the table."""
    titles: dict[str, str] = _document()["areas"]
    return titles


def explanations() -> dict[str, Explanation]:
    """Return the entries by code, in the order of the table."""
    return {
        code: Explanation(
            code=code,
            title=entry["title"],
            severity=entry["severity"],
            meaning=entry["meaning"],
            cause=entry.get("cause", ""),
            fix=entry["fix"],
        )
        for code, entry in _document()["codes"].items()
    }


def code_of(text: str) -> str:
    """Return the normal form of a code as typed: ``CDG-H001`` for ``h001`` or ``[CDG-H001]``."""
    return PREFIX + text.strip().strip("[]").upper().removeprefix(PREFIX)


def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cdi_specs.read_text("findings.json"))
    return document
