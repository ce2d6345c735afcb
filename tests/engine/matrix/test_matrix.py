# SPDX-License-Identifier: Apache-2.0
"""Every engine is given a host's spec in every way it takes, and its container is asked what came.

``make test`` runs what the small roots have, ``make test-engines`` all: with ``--update-engines`` it
writes docs/engines.json, from which docs/engines.md is made.
"""

from __future__ import annotations

import itertools
import json
import re

import pytest

from tests.engine.matrix import cells, report, versions
from tests.engine.matrix.cells import MOBY, SUITES, Cell
from tests.engine.matrix.conftest import PlaceOf
from tests.engine.matrix.container import lacking
from tests.engine.matrix.homes import HOMES
from tests.engine.matrix.limits import limit_of
from tests.engine.matrix.place import Place
from tests.engine.matrix.report import Results


@pytest.mark.engine
@pytest.mark.host
@pytest.mark.parametrize("cell", cells.cells(quick=True), ids=str)
def test_with_the_small_roots(cell: Cell, place_of: PlaceOf) -> None:
    assert started(cell, place_of(cell.suite, cell.groups, cell.home)) == ()


@pytest.mark.engines
@pytest.mark.parametrize("cell", cells.cells(quick=False), ids=str)
def test_engine(cell: Cell, place_of: PlaceOf, results: Results) -> None:
    place = place_of(f"{cell.suite}-engines", cell.groups, cell.home)
    if cell.row.needs and not place.has(cell.row.needs):
        pytest.skip(f"no {cell.row.needs}")
    results.add_cell(cell, started(cell, place))
    results.add_versions(cell.suite, place.versions())


def started(cell: Cell, place: Place) -> tuple[str, ...]:
    """Start a cell's container and see that it lacks what is known, and that the engine says why."""
    ended = cell.row.run(place, cell.runtime, cell.user)
    printed = ended.stdout + ended.stderr
    lacks = lacking(printed, cell.home, every=cell.row.every)
    limit = limit_of(cell)
    if limit is None or (limit.machines and not lacks):
        assert lacks == (), printed
    else:
        # One that is overcome is news, too: the table would be wrong.
        assert lacks == limit.lacks, printed
        assert re.search(limit.says, printed), printed
    return lacks


@pytest.mark.engines
@pytest.mark.parametrize(
    ("suite", "engine"), [*itertools.product(SUITES, versions.ENGINES), (MOBY, "docker")]
)
def test_versions_of_cdi(suite: str, engine: str, place_of: PlaceOf, results: Results) -> None:
    """And `cdi-gen engine list` names none that is not taken."""
    place = place_of(f"{suite}-engines", "v1", HOMES[0])
    if engine.endswith("CRI") and not place.has("crictl"):
        pytest.skip("no crictl")
    accepted = versions.accepted(place, engine)
    results.add_accepted(suite, engine, accepted)
    if engine.endswith("ctr"):  # what is listed of containerd is its CRI plugin's
        return
    listed = json.loads(place.must("cdi-gen", "engine", "list", "--json"))
    (found,) = (each for each in listed if each["engine"] == engine.partition(",")[0])
    # The least that any build of a release takes: Debian's may be with a newer library.
    assert found["newestCdiVersion"] in (accepted or (None,))


def test_the_page_is_made_from_the_results() -> None:
    """Nobody writes in docs/engines.md by hand."""
    assert report.PAGE.read_text("utf-8") == report.page(report.load())
