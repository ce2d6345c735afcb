# SPDX-License-Identifier: Apache-2.0
"""Results of the matrix, in docs/engines.json; and the page made of them, docs/engines.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.engine.matrix.cells import MOBY, ROWS, SUITES, Cell, Row, cells
from tests.engine.matrix.limits import CONTAINER, NOT_RUN, NOTHING, limit_of
from tests.engine.matrix.versions import ENGINES
from tests.host.looking import REPOSITORY
from tests.lab import debian

RESULTS = REPOSITORY / "docs/engines.json"
PAGE = REPOSITORY / "docs/engines.md"

COLUMNS = (*SUITES, MOBY)

VARYING = ("runtime", "user", "groups", "host")
"""What the cells of a row differ in, in a suite."""

Document = dict[str, Any]

HEAD = """\
<!-- Made by `make test-engines` from docs/engines.json: do not edit. -->
# Engines

Real engines of three Debian releases apply one spec, as `cdi-gen generate` writes it for a host, to a
container: `make test-engines` runs every cell below, each on three hosts, whose driver is where Debian,
Red Hat and Arch install it, with images of another layout. The images resemble NVIDIA's CUDA images:
their environment requests all GPUs, and they list a libcuda of their own for the loader, an older one, a newer one
or a stub. **yes** means that the container itself was checked: GPU 0's nodes exist and can be opened, another GPU's
do not exist, the mounts and the hook's links exist, the image's own loader finds the driver's libcuda and NVML and
no others (*libraries*), so does its `ldconfig -p` (*listing*), and the spec's variables are set. Other cells say
what is missing, with a reason below. `cdi-gen engine configure` configured Docker, containerd and
Podman's hooks.d. The machine is a fake host (`tests/fakehost`) with engines in namespaces (`tests/lab`), each
in a view of control groups of version 1 and 2. A result without runtime, user or version holds for all others.
The column *moby* is sid with a dockerd built from Docker's sources: module `github.com/moby/moby/v2`
2.0.0-beta.24, which has no version number of Docker; it gets the number of the release twelve days before
it. From 29 on, `--gpus` uses CDI devices by itself if dockerd finds `nvidia-cdi-hook` in its PATH,
a link that `cdi-gen hook install --nvidia-cdi-hook` creates.
"""


class Results:
    """What a run found; what it did not try stays as it was found before."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def add_cell(self, cell: Cell, lacks: tuple[str, ...]) -> None:
        self.document["cells"][str(cell)] = list(lacks)

    def add_versions(self, suite: str, versions: dict[str, str]) -> None:
        self.document["versions"][suite] = versions

    def add_accepted(self, suite: str, engine: str, accepted: tuple[str, ...]) -> None:
        self.document["accepted"].setdefault(engine, {})[suite] = list(accepted)

    def write(self) -> None:
        """Both files; cells that the matrix no longer has are left out."""
        known = map(str, cells(quick=False))
        found = self.document["cells"]
        self.document["cells"] = {name: found[name] for name in known if name in found}
        text = json.dumps(self.document, indent=1, sort_keys=True)
        RESULTS.write_text(text + "\n", "utf-8")
        PAGE.write_text(page(self.document), "utf-8")


def load() -> Document:
    """The results as they were written last."""
    if RESULTS.exists():
        found: Document = json.loads(RESULTS.read_text("utf-8"))
        return found
    return {"cells": {}, "versions": {}, "accepted": {}}


def page(document: Document) -> str:
    """The page of these results."""
    reasons: list[str] = []
    engines = dict.fromkeys(row.engine for row in ROWS)
    parts = [HEAD, *(f"## {each}\n\n{_table_of(each, document, reasons)}" for each in engines)]
    parts.append(
        "## Versions of CDI\n\nEach version was tested with a spec; the table lists the accepted versions.\n\n"
        + _accepted(document)
    )
    parts.append("## Not run\n\n" + _table(("engine", "why"), NOT_RUN.items()))
    notes = "".join(f"{number}. {why}.\n" for number, why in enumerate(reasons, 1))
    parts.append(f"## Reasons\n\n{notes}")
    return "\n".join(parts)


def _table_of(engine: str, document: Document, reasons: list[str]) -> str:
    rows = [row for row in ROWS if row.engine == engine]
    suites = [suite for suite in COLUMNS if any(suite in row.suites for row in rows)]
    heads = [f"{suite}: {_version(document, suite, engine)}" for suite in suites]
    lines = [
        (f"`{row.says}`", *(_answer(row, suite, document, reasons) for suite in suites))
        for row in rows
    ]
    return _table(("", *heads), lines)


def _version(document: Document, suite: str, engine: str) -> str:
    return str(document["versions"].get(suite, {}).get(engine, "none"))


def _answer(row: Row, suite: str, document: Document, reasons: list[str]) -> str:
    """What became of all cells of a row in a suite; where they differ, of which."""
    found: dict[str, list[Cell]] = {}
    for cell in cells(quick=False):
        if cell.row is row and cell.suite == suite:
            lacks = document["cells"].get(str(cell))
            said = "not run" if lacks is None else _said(cell, tuple(lacks), reasons)
            found.setdefault(said, []).append(cell)
    every = [cell for group in found.values() for cell in group]
    if len(found) < 2:
        return next(iter(found), "-")
    named = [(_which(group, every), said) for said, group in found.items()]
    # What no condition tells from the others holds where no other does: it is said first, without
    # one. Where each has its own, yes is.
    named.sort(key=lambda each: (each[0] != "", each[1] != "yes"))
    (of, said), *others = named
    first = said if said == "yes" else f"{of}: {said}" if of else said
    return "; ".join((first, *(f"{of}: {said}" for of, said in others)))


def _said(cell: Cell, lacks: tuple[str, ...], reasons: list[str]) -> str:
    if not lacks:
        return "yes"
    limit = limit_of(cell)
    if limit is None:
        return "no"
    if limit.why not in reasons:
        reasons.append(limit.why)
    mark = f"[{reasons.index(limit.why) + 1}]"
    if lacks in {CONTAINER, NOTHING}:
        return f"no {mark}"
    return f"all but {', '.join(lacks)} {mark}"


def _which(group: list[Cell], every: list[Cell]) -> str:
    """What is common to the cells of a group, and to no other; empty if nothing is."""
    common = {name: {getattr(cell, name) for cell in group} for name in VARYING}
    own = {
        name: next(iter(values))
        for name, values in common.items()
        if len(values) == 1 and values != {getattr(cell, name) for cell in every}
    }
    if not own:
        return ""
    alike = [cell for cell in every if all(getattr(cell, name) == own[name] for name in own)]
    if len(alike) > len(group):
        # Too many: each kind of them by itself.
        name = next(name for name in VARYING if len(common[name]) > 1)
        kinds = [[cell for cell in group if getattr(cell, name) == each] for each in common[name]]
        return ", ".join(sorted(_which(kind, every) for kind in kinds))
    return " ".join(
        {0: "rootful", debian.USER: "rootless"}.get(each, each) for each in own.values()
    )


def _accepted(document: Document) -> str:
    lines = [
        (
            engine,
            *(
                ", ".join(document["accepted"].get(engine, {}).get(suite, "-")) or "none"
                for suite in COLUMNS
            ),
        )
        for engine in ENGINES
    ]
    return _table(("", *COLUMNS), lines)


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    rows = [head, tuple("---" for _ in head), *map(tuple, lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
