# SPDX-License-Identifier: Apache-2.0
"""Plain words of YAML that some readers take as text and others as a boolean or a number.

JSON has none of them. In YAML 1.1, and for the releases that convert to JSON (go-yaml v2), `yes`
and `on` are booleans. For 1.1.1 (go-yaml v3) they are text, unless the field is a boolean.
"""

from __future__ import annotations

TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"})
FALSE = frozenset({"n", "N", "no", "No", "NO", "off", "Off", "OFF"})
INFINITE = frozenset(
    sign + word for word in (".inf", ".Inf", ".INF") for sign in ("", "+", "-")
) | {".nan", ".NaN", ".NAN"}
WORDS = TRUE | FALSE | INFINITE

WANTED_TRUE = frozenset({"y", "Y", "yes", "on"})
WANTED_FALSE = frozenset({"n", "N", "no", "off"})
"""Words that 1.1.1 takes as a boolean in a boolean field, quoted or not."""


class PlainWord(str):
    """One of `WORDS`, written in YAML without quotes."""

    __slots__ = ()
