# SPDX-License-Identifier: Apache-2.0
"""The table of codes: what each finding means in general, its usual cause and its remedy.

``cdi-gen explain`` and ``docs/findings.md`` are made from the table. Errors and warnings carry
their code themselves, so that no other command reads the table.
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
    """The usual one; a single finding may have another."""
    meaning: str
    cause: str
    """The usual cause; empty where the meaning names it."""
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
    """Return the table by code, in its order."""
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
    """Return the code that a person means: ``h001`` and ``[CDG-H001]`` are ``CDG-H001``."""
    return PREFIX + text.strip().strip("[]").upper().removeprefix(PREFIX)


def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cdi_specs.read_text("findings.json"))
    return document
