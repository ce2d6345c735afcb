# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen why COMMAND` says what the engine does with the command."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from tests.engine.matrix import commands
from tests.engine.matrix.commands import NOTHING, REFUSED, ROWS, SUITES, Row
from tests.engine.matrix.conftest import PlaceOf
from tests.engine.matrix.homes import HOMES
from tests.engine.matrix.place import PYTHON_PATH, Place

PYTHON = ("python3", "-W", "ignore", "-B", "-m", "cdi_gen")
HOME = HOMES[0]._replace(image="cuda-rockylinux")


def cases(*, quick: bool) -> list[Any]:
    """The rows of each suite, with the mechanism that is expected."""
    found = []
    for number, row in enumerate(ROWS):
        for suite, expected in zip(SUITES[:2] if quick else SUITES, row.expected, strict=False):
            if expected is not None and (row.quick or not quick):
                name = f"{suite}-{number}-{row.command.partition(' IMAGE')[0]}{row.compose}"
                found.append(pytest.param(number, row, suite, expected, id=name))
    return found


@functools.cache
def ready(place: Place) -> frozenset[str]:
    """Put the recorder into a place; the device nodes that each container has."""
    commands.install(place)
    place.podman(0)
    words = ["podman", "run", "--rm", f"localhost/{place.image}"]
    return commands.observe(place, words, frozenset()).nodes


def start_engine(place: Place, command: str) -> None:
    """Have the daemon of a command running, with the image."""
    if command.startswith("docker"):
        place.docker(0)
    elif command.startswith("ctr"):
        place.containerd()


def agree(answer: dict[str, Any], seen: commands.Observation, expected: str) -> None:
    """Compare what is said with what was seen."""
    said = json.dumps(answer, indent=1)
    assert seen.mechanism == expected, (seen.printed, said)
    if expected == REFUSED:
        assert answer["outcome"] == "fails", (seen.printed, said)
        return
    assert answer["mechanism"] == expected or expected == NOTHING, said
    # A container that starts without its GPU is a fault all the same.
    assert answer["outcome"] == ("fails" if expected in (NOTHING, commands.NODES) else "works"), (
        said
    )
    if expected == commands.NODES:
        assert seen.nodes == {"/dev/nvidia0"}
        return
    injected = frozenset((answer["injection"] or {"nodes": ()})["nodes"])
    assert seen.nodes == injected, said


@pytest.mark.engine
@pytest.mark.host
@pytest.mark.parametrize(("number", "row", "suite", "expected"), cases(quick=True))
def test_with_the_small_roots(
    number: int, row: Row, suite: str, expected: str, place_of: PlaceOf
) -> None:
    """These roots lack the Python packages of cdi-gen, which are those of the tests' environment."""
    place = place_of(suite, "v1", HOME)
    compare(place, row, number, expected, "env", f"PYTHONPATH={PYTHON_PATH}", *PYTHON)


@pytest.mark.engines
@pytest.mark.parametrize(("number", "row", "suite", "expected"), cases(quick=False))
def test_engine(number: int, row: Row, suite: str, expected: str, place_of: PlaceOf) -> None:
    place = place_of(f"{suite}-engines", "v1", HOME)
    start_engine(place, row.command)
    compare(place, row, number, expected, "cdi-gen")


def compare(place: Place, row: Row, number: int, expected: str, *program: str) -> None:
    """Compare what `cdi-gen why` says of a command with what the engine does."""
    usual = ready(place)
    words = commands.words_of(row, place, number, place.image)
    printed = place.run(*program, "why", "-o", "json", *words)
    assert printed.stdout, printed.stderr
    (answer,) = json.loads(printed.stdout)["answers"]
    agree(answer, commands.observe(place, words, usual), expected)
