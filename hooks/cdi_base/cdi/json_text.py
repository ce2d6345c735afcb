# SPDX-License-Identifier: Apache-2.0
r"""Finds text that JSON allows and YAML does not, since engines read every spec as YAML.

go-yaml rejects `\/`, escaped halves of a surrogate pair, a colon on another line than its key, a
key of more than 1,024 characters, and the characters of `_CONTROLS`.
"""

from __future__ import annotations

MAX_BYTES = 4 << 20
"""The largest size of a spec file in bytes; the largest specs have 150,000."""
MAX_KEY = 1000
"""The largest number of characters of a key; some YAML readers reject longer keys."""

_CONTROLS = frozenset(map(chr, [0x7F, *range(0x80, 0xA0), 0xFFFE, 0xFFFF])) - {"\x85"}


def incompatibility(text: str) -> str | None:
    """Return why a YAML reader would reject this JSON text; None if it would not.

    Of keys only the position of the colon is checked.
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
    """Whether the text has one of these escape sequences; an escaped backslash begins none."""
    position = text.find("\\")
    while position >= 0:
        if text.startswith(escapes, position + 1):
            return True
        position = text.find("\\", position + 2)
    return False
