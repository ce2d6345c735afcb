# SPDX-License-Identifier: Apache-2.0
"""Plain words of YAML that are text to some readers and something else to others.

JSON has none of them. YAML 1.1 takes `yes` and `on` for truth, and so do the releases that read by
JSON (go-yaml v2); 1.1.1 takes them for text unless a boolean is wanted (go-yaml v3).
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
"""What 1.1.1 takes for a boolean where one is wanted, quoted or not."""


class PlainWord(str):
    """One of `WORDS` that stood in a YAML text without quotes."""

    __slots__ = ()
