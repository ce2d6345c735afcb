# SPDX-License-Identifier: Apache-2.0
"""The attacker of a race: a process that exchanges names of an image, over and over."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("racer.c")


class Pair(NamedTuple):
    """Two names in a folder that change places."""

    folder: Path
    one: str
    other: str


class Exchanges:
    """How many there were, once it is over."""

    count = 0


@contextmanager
def exchanging(racer: Path, pairs: list[Pair]) -> Iterator[Exchanges]:
    """The pairs are exchanged in turn, as fast as a core can, while the block runs."""
    words = [str(word) for pair in pairs for word in pair]
    exchanges = Exchanges()
    with subprocess.Popen([racer, *words], stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout
        assert attacker.stdout.readline() == b"ready\n"
        try:
            yield exchanges
        finally:
            attacker.terminate()
            exchanges.count = int(attacker.stdout.read() or 0)
