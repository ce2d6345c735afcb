# SPDX-License-Identifier: Apache-2.0
r"""Texts that JSON allows and YAML does not: engines read every spec as YAML.

go-yaml knows no `\/` and takes no half of a surrogate pair, nor both halves; it wants the colon on
the key's line, a key of at most 1,024 characters, and none of these characters.
"""

from __future__ import annotations

MAX_BYTES = 4 << 20
"""Of a spec file; the largest have 150,000."""
MAX_KEY = 1000
"""Characters; of a longer key only a YAML reader can tell."""

_CONTROLS = frozenset(map(chr, [0x7F, *range(0x80, 0xA0), 0xFFFE, 0xFFFF])) - {"\x85"}


def doubt(text: str) -> str | None:
    """Why a YAML reader would refuse this JSON text; None if it would not.

    Keys are not looked at, but for where their colons are.
    """
    if text.isascii():
        if "\x7f" in text:
            return "has a control character"
    elif not _CONTROLS.isdisjoint(text):
        return "has a control character"
    if "\\/" in text and has_escape(text, "/"):
        return "has \\/, which YAML does not know: write / alone"
    if ("\\ud" in text or "\\uD" in text) and has_escape(text, "ud", "uD"):
        return "has halves of a surrogate pair, which YAML does not know: write the character"
    if any(line.lstrip(" \t").startswith(":") for line in text.split("\n")):
        return "has a colon on another line than its key"
    return None


def has_escape(text: str, *escapes: str) -> bool:
    """Whether one of these comes after a backslash that is not escaped itself."""
    place = text.find("\\")
    while place >= 0:
        if text.startswith(escapes, place + 1):
            return True
        place = text.find("\\", place + 2)
    return False
