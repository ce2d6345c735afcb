# SPDX-License-Identifier: Apache-2.0
"""Draws what a terminal shows as SVG.

``python -m tests.top.picture NAME.svg`` runs ``cdi-gen top`` on a fake host and draws its screen;
docs/top.svg is made so.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from html import escape
from pathlib import Path

import pyte
from pyte.screens import Char

from tests.cli.program import CHECKOUT
from tests.top.busy_host import made
from tests.top.screen import Session

NAMED = {
    "black": "#000000", "red": "#cd3131", "green": "#0dbc79", "brown": "#b58900",
    "blue": "#2472c8", "magenta": "#bc3fbc", "cyan": "#11a8cd", "white": "#e5e5e5",
}  # fmt: skip
DARK = ("#14181f", "#d5dae2")
LIGHT = ("#ffffff", "#24292f")
CELL, LINE, SIZE = 7.8, 17, 13
MARGIN = 10


def svg(screen: pyte.Screen, background: str, foreground: str) -> str:
    """Return the screen as a picture."""
    width = screen.columns * CELL + 2 * MARGIN
    height = screen.lines * LINE + 2 * MARGIN
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
            f' width="{width:.0f}" height="{height:.0f}" font-size="{SIZE}"'
            ' font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">'
        ),
        f'<rect width="100%" height="100%" rx="8" fill="{background}"/>',
    ]
    for number in range(screen.lines):
        row = screen.buffer[number]
        start = 0
        while start < screen.columns:
            cell = row[start]
            end = start + 1
            while end < screen.columns and _look(row[end]) == _look(cell):
                end += 1
            text = "".join(row[column].data for column in range(start, end))
            parts += _run(text, cell, start, number, end - start, background, foreground)
            start = end
    return "\n".join([*parts, "</svg>\n"])


def _look(cell: Char) -> tuple[object, ...]:
    return cell.fg, cell.bg, cell.bold, cell.reverse, cell.underscore


def _run(
    text: str, cell: Char, column: int, row: int, columns: int, background: str, foreground: str
) -> list[str]:
    """Return the elements of cells that look the same."""
    ink, paper = _colour(cell.fg, foreground), _colour(cell.bg, background)
    if cell.reverse:
        ink, paper = paper, ink
    x, y = MARGIN + column * CELL, MARGIN + row * LINE
    parts = []
    if paper != background:
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{columns * CELL:.1f}" height="{LINE}"'
            f' fill="{paper}"/>'
        )
    if cell.underscore:
        parts.append(
            f'<rect x="{x:.1f}" y="{y + LINE - 2}" width="{columns * CELL:.1f}" height="1"'
            f' fill="{ink}"/>'
        )
    weight = ' font-weight="bold"' if cell.bold else ""
    # Browsers do not agree on spaces in texts.
    return [
        *parts,
        *(
            f'<text x="{x + word.start() * CELL:.1f}" y="{y + 13}"'
            f' textLength="{len(word[0]) * CELL:.1f}" fill="{ink}"{weight}>{escape(word[0])}</text>'
            for word in re.finditer(r"\S+", text)
        ),
    ]


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return NAMED.get(name.removeprefix("bright"), f"#{name}")


def main() -> None:
    """Run the program on a fake host until it has a history, and draw its screen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", default="132x30")
    parser.add_argument("--mig", action="store_true")
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--term", default="screen-256color")
    parser.add_argument("--keys", default="")
    parser.add_argument("--seconds", type=int, default=24)
    parser.add_argument("--options", default="", help="further options of cdi-gen top")
    chosen = parser.parse_args()
    columns, rows = map(int, chosen.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        host = made(Path(folder) / "host", is_mig=chosen.mig)
        words = (sys.executable, "-m", "cdi_gen", "top", "--host-root", str(host.root))
        environment = {"PATH": os.environ["PATH"], "TERM": chosen.term, "LANG": "C.UTF-8"}

        session = Session(
            (*words, "--unicode", *chosen.options.split()),
            columns=columns,
            rows=rows,
            environment=environment,
            cwd=str(CHECKOUT),
        )
        with session:
            session.wait_for("CONTAINER")
            session.press(chosen.keys)
            for step in range(chosen.seconds):
                host.move(step)
                session.follow(1)
            chosen.path.write_text(svg(session.screen, *(LIGHT if chosen.light else DARK)))
            session.press("q")
            session.wait_for_end()


if __name__ == "__main__":
    main()
