# SPDX-License-Identifier: Apache-2.0
"""Ask ``/probe``, the program in every image of the lab, and read its answers (see probe.c)."""

from __future__ import annotations

import re
from collections.abc import Iterable

Answers = dict[tuple[str, str], tuple[str, ...]]

_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def probe(*questions: tuple[str, ...]) -> list[str]:
    """The command line that asks all ``questions``, each a verb and its subjects, at once."""
    words = ["/probe"]
    for question in questions:
        words += [*question, "--"]
    return words[:-1]


def answers(printed: str) -> Answers:
    """The answer to each (verb, subject); ``ls`` answers with all names as one tuple."""
    found: Answers = {}
    for verb, subject, *fields in _records(printed):
        found[verb, subject] = (found.get((verb, subject), ()) if verb == "ls" else ()) + tuple(
            fields
        )
    return found


def changed(before: Answers, after: Answers) -> dict[str, tuple[str, ...] | None]:
    """What two ``find`` answers differ in: path to what it is afterwards, None if it is gone."""
    everything: Iterable[tuple[str, str]] = dict.fromkeys((*before, *after))
    return {
        path: after.get((verb, path))
        for verb, path in everything
        if verb == "find" and before.get((verb, path)) != after.get((verb, path))
    }


def _records(printed: str) -> Iterable[list[str]]:
    for line in printed.splitlines():
        yield [_plain(field) for field in line.split("\t")]


def _plain(field: str) -> str:
    octets = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), field).encode("latin-1")
    return octets.decode("utf-8", "surrogateescape")
