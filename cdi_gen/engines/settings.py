# SPDX-License-Identifier: Apache-2.0
"""Some keys of a TOML file, set together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cdi_gen.engines.plan import HEADER
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path

Settings = Sequence[tuple[Path, Any]]


def edited(text: str | None, settings: Settings) -> str | None:
    """A file with these settings; a new one begins with `HEADER`, and without any is none.

    Raises:
        TOMLTextError: it is no TOML, or cannot be changed so.
    """
    made = HEADER if text is None else text
    for path, value in settings:
        made = toml_text.with_value(made, path, value)
    return None if text is None and not settings else made
