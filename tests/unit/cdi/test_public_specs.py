# SPDX-License-Identifier: Apache-2.0
"""Other vendors' specs, and people's own, are judged and shown as engines would take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdi_base.cdi.specification import EVERY
from cdi_gen.cdi import inject, wire
from cdi_gen.cdi.inject import NodeStatus
from cdi_gen.cdi.validation import check_text
from tests.cli.program import cdi_gen

from .public_specs import SPECS

TAKEN = [name for name, spec in SPECS.items() if spec.device]


@pytest.mark.parametrize("name", SPECS)
def test_what_is_wrong_is_said(name: str) -> None:
    spec = SPECS[name]
    problems = check_text(spec.text)
    assert set().union(*(problem.refused_by for problem in problems)) == spec.refused_by
    said = [f"{problem.severity}: {problem}" for problem in problems]
    for part in spec.told:
        assert any(part in line for line in said), said
    if not spec.told:
        assert said == []
    assert ("fatal: " in "".join(said)) == (spec.refused_by == EVERY)


@pytest.mark.parametrize("name", TAKEN)
def test_a_device_is_listed_shown_and_injected(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    (tmp_path / "a.json").write_text(spec.text)
    kind = wire.load(spec.text).kind
    qualified = f"{kind}={spec.device}"
    where = ("--spec-dir", str(tmp_path))
    assert f"{qualified}\n" in cdi_gen("list", "-o", "name", *where).out
    shown = cdi_gen("show", qualified, *where)
    assert tuple(shown.out.splitlines()[1:]) == spec.shown
    edited = inject.inject(
        {"ociVersion": "1.0.0"},
        [qualified],
        [wire.load(spec.text)],
        look=lambda _path: NodeStatus("c", 10, 200, 0o660),
    )
    nodes = [line.split()[1] for line in spec.shown if line.startswith("device")]
    assert [node["path"] for node in edited.get("linux", {}).get("devices", [])] == nodes
    assert len(edited.get("mounts", [])) == sum(line.startswith("mount") for line in spec.shown)


@pytest.mark.parametrize("name", [n for n, spec in SPECS.items() if spec.refused_by == EVERY])
def test_what_every_engine_ignores_is_listed_nowhere(name: str, tmp_path: Path) -> None:
    Path(tmp_path, "a.yaml").write_text(SPECS[name].text)
    found = cdi_gen("list", "-o", "name", "--spec-dir", str(tmp_path))
    assert found.out == ""
    assert "every engine ignores the whole file" in found.err
