# SPDX-License-Identifier: Apache-2.0
"""The keys, and what the signs on the screen mean."""

from __future__ import annotations

import textwrap

from cdi_gen.top.glyphs import Glyphs
from cdi_gen.top.lines import Line, Piece, Style

KEYS = (
    ("F1 ? h", "this help"),
    ("Arrows k j PgUp PgDn Home End", "move the selection"),
    ("Tab", "to the other table"),
    ("Enter Space Right Left + -", "show or hide the processes of a container"),
    ("*", "show or hide the processes of all containers"),
    ("F4 / \\", "filter by words; Esc clears the filter"),
    ("F6 > . < ,", "sort by the next or the previous value"),
    ("P M G N", "sort by utilization, memory, GPU or name"),
    ("I", "invert the order"),
    ("F5 c", "one row for a container, or for each device"),
    ("g", "show or hide the GPUs"),
    ("d s", "set the seconds between measurements"),
    ("Z p", "pause, and go on"),
    ("Ctrl-L", "draw the screen again"),
    ("Ctrl-Z", "suspend"),
    ("q F10 Ctrl-C", "quit"),
)
FOOTER = (
    ("F1", "Help"),
    ("F4", "Filter"),
    ("F6", "Sort"),
    ("Enter", "Processes"),
    ("F5", "Fold"),
    ("Z", "Pause"),
    ("d", "Interval"),
    ("Tab", "GPUs"),
    ("q", "Quit"),
)
"""The most important keys; the last ones are left out on a narrow screen."""

_KEY_COLUMNS = 31
_INDENT = 4
_WIDE = 80
"""From this width on a key and its text are in one line."""


def lines(glyphs: Glyphs, columns: int) -> list[Line]:
    """Return the lines of the help."""
    signs = (
        (glyphs.dash, "not known: NVML does not tell; 0% is idle"),
        ("0:1", "the MIG device 1 of GPU 0"),
        ("0!", "refused: see cdi-gen why --container NAME"),
        ("all", "privileged: can use all GPUs, and uses none"),
        ("host", "processes that are in no container"),
    )
    return [
        (Piece("Keys", Style.STRONG),),
        *(line for words, text in KEYS for line in _lines(words, text, columns)),
        (),
        (Piece("Signs", Style.STRONG),),
        *(line for words, text in signs for line in _lines(words, text, columns)),
    ]


def _lines(words: str, text: str, columns: int) -> list[Line]:
    if columns >= _WIDE:
        return [(Piece(f" {words:<{_KEY_COLUMNS}}", Style.ENGINE), Piece(text))]
    parts = textwrap.wrap(text, max(columns - _INDENT, 1))
    return [
        (Piece(f" {words}", Style.ENGINE),),
        *((Piece(" " * _INDENT + part),) for part in parts),
    ]
