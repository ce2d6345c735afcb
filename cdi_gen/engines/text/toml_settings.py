# SPDX-License-Identifier: Apache-2.0
"""Sets several keys of a TOML file together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path

HEADER = "# Written by cdi-gen engine configure; cdi-gen engine unconfigure removes it.\n"
"""The first line of a file that cdi-gen writes as a whole."""

Settings = Sequence[tuple[Path, Any]]


def with_settings(text: str | None, settings: Settings) -> str | None:
    """A file with these settings. A new file begins with `HEADER`; without settings it is None.

    Raises:
        TOMLTextError: the file is not TOML, or cannot be changed as requested.
    """
    new_text = HEADER if text is None else text
    for path, value in settings:
        new_text = toml_text.with_value(new_text, path, value)
    return None if text is None and not settings else new_text
