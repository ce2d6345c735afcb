# SPDX-License-Identifier: Apache-2.0
"""Some keys of a TOML file, set together and taken back together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cdi_gen.engines import toml_text
from cdi_gen.engines.plan import HEADER, undone

Settings = Sequence[tuple[toml_text.Path, Any]]


def edited(text: str | None, settings: Settings) -> str | None:
    """A file with these settings; a new one begins with `HEADER`, and without any is none.

    Raises:
        TOMLTextError: it is no TOML, or can not be changed so.
    """
    made = HEADER if text is None else text
    for path, value in settings:
        made = toml_text.with_value(made, path, value)
    return None if text is None and not settings else made


def taken_back(text: str, before: str | None, paths: Sequence[toml_text.Path]) -> str | None:
    """A file without what is set at these paths; what was set there before is so again.

    A file that is ours as a whole becomes what it was before, or is gone.

    Args:
        text: what is in it.
        before: its backup, if there is one.
        paths: the keys that are ours.

    Raises:
        TOMLTextError: it is no TOML, or can not be changed so.
    """
    if text.startswith(HEADER):
        return before
    said = toml_text.parse(text)
    settings = [(path, toml_text.get(said, path)) for path in paths]
    settings = [(path, value) for path, value in settings if value is not None]

    def remove(text: str, before: str | None) -> str:
        was = toml_text.parse(before)
        for path, _ in settings:
            old = toml_text.get(was, path)
            if old is None:
                text = toml_text.without(text, path)
            else:
                text = toml_text.with_value(text, path, old)
        return text

    return undone(text, before, lambda origin: edited(origin, settings), remove)
