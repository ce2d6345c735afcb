# SPDX-License-Identifier: Apache-2.0
"""The data files of cdi-gen: the standard's JSON schemas, and tables of facts with sources."""

from __future__ import annotations

_FOLDER = __file__.rpartition("/")[0]


def read_text(name: str) -> str:
    """Return the text of a file of this package, for example ``schema.json``.

    The import of importlib.resources would take 10 ms in every command; a plain path is enough,
    because the package is always installed as files.
    """
    with open(f"{_FOLDER}/{name}", encoding="utf-8") as file:
        return file.read()
