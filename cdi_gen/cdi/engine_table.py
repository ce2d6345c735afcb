# SPDX-License-Identifier: Apache-2.0
"""Reads ``specs/cdi_specs/engines.json``, the table of facts about container engines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import cdi_specs


@cache
def engines() -> dict[str, dict[str, Any]]:
    """Return the entry of each engine, by the engine's name."""
    table: dict[str, dict[str, Any]] = _document()["engines"]
    return table


def sources(keys: Iterable[str]) -> str:
    """Return the texts of the sources that a row refers to by their keys."""
    texts: dict[str, str] = _document()["sources"]
    return "; ".join(texts[key] for key in keys)


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cdi_specs.read_text("engines.json"))
    return document
