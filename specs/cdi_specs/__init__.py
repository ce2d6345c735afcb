# SPDX-License-Identifier: Apache-2.0
"""Data that goes with cdi-gen: the standard's JSON schemas, and tables of facts with sources."""

from __future__ import annotations

_FOLDER = __file__.rpartition("/")[0]


def read_text(name: str) -> str:
    """Return the text of the file ``name`` of this package, ``schema.json`` for one.

    importlib.resources would cost 10 ms on the way to every spec; a plain path is enough, because
    the package is always installed as files.
    """
    with open(f"{_FOLDER}/{name}", encoding="utf-8") as file:
        return file.read()
