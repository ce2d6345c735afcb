# SPDX-License-Identifier: Apache-2.0
"""``list`` and ``show`` of installed specs, as engines resolve them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cli.program import SPEC, UUID, cdi_gen, failure

NAMES = ["0", UUID, "pci-0000-1b-00-0", "all", "none"]


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A spec directory: one good file, two that conflict, a broken one, and what nobody reads."""
    folder = tmp_path / "cdi"
    folder.mkdir()
    (folder / "good.json").write_text(SPEC.replace("nvidia.com/gpu", "example.org/gpu"))
    for name in ("one.json", "two.yaml"):
        (folder / name).write_text(SPEC)
    (folder / "broken.json").write_text("{")
    (folder / "notes.txt").write_text(SPEC.replace("nvidia.com/gpu", "example.org/unread"))
    return folder


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "name"])
def test_installed_specs_as_engines_find_them(specs: Path, form: str) -> None:
    found = cdi_gen("list", "--spec-dir", str(specs), "-o", form)
    assert found.code == 0
    read: dict[str, Callable[[str], list[str]]] = {
        "json": lambda text: [each["device"] for each in json.loads(text) if each["file"]],
        "yaml": lambda text: [each["device"] for each in yaml.safe_load(text) if each["file"]],
        "name": str.split,
        "table": lambda text: [line.split()[0] for line in text.splitlines()[1:]],
    }
    rows = read["table" if form == "wide" else form](found.out)
    assert rows == sorted(f"example.org/gpu={name}" for name in NAMES)
    assert f"warning: {specs}/broken.json: line 1, column 2" in found.err
    assert found.err.count("conflict") == 0
    assert f"engines cannot resolve nvidia.com/gpu=0, nvidia.com/gpu={UUID}" in found.err
    assert f"{specs}/one.json, {specs}/two.yaml all define these devices" in found.err
    assert "unread" not in found.out + found.err


def test_the_later_directory_wins(specs: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (later / "mine.json").write_text((specs / "good.json").read_text())
    both = ("list", "--spec-dir", str(specs), "--spec-dir", str(later))
    first = json.loads(cdi_gen(*both, "-o", "json").out)[0]
    assert (first["file"], first["shadowed"]) == (
        str(later / "mine.json"),
        [str(specs / "good.json")],
    )
    assert str(specs / "good.json") in cdi_gen(*both, "-o", "wide").out
    variable = {"NVIDIA_CTK_CDI_SPEC_DIRS": str(later)}
    assert str(later / "mine.json") in cdi_gen("cdi", "list", env=variable).out


def test_a_directory_without_specs(tmp_path: Path) -> None:
    found = cdi_gen("list", "--spec-dir", str(tmp_path / "none"), "-o", "name")
    assert (found.code, found.out) == (0, "")
    assert f"no spec file in {tmp_path}/none" in found.err


def test_show_of_an_installed_device(specs: Path) -> None:
    found = cdi_gen("show", "example.org/gpu=0", "--spec-dir", str(specs))
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0] == f"example.org/gpu=0  (CDI 0.5.0, from {specs}/good.json)"
    assert "device  /dev/nvidia0  c 195:0  rw" in lines
    document = json.loads(SPEC)
    edits = [document["containerEdits"], document["devices"][0]["containerEdits"]]
    for key, word in (
        ("env", "env"),
        ("deviceNodes", "device"),
        ("mounts", "mount"),
        ("hooks", "hook"),
    ):
        wanted = sum(len(each.get(key, ())) for each in edits)
        assert len([line for line in lines if line.startswith(f"{word} ")]) == wanted > 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nvidia.com/gpu=0", "engines cannot resolve nvidia.com/gpu=0"),
        ("nvidia.com/gpu=9", "no spec file in"),
        ("example.org/unread=0", "no spec file in"),
        ("=", "no spec file in"),
    ],
)
def test_show_of_what_does_not_resolve(specs: Path, name: str, told: str) -> None:
    said = failure(cdi_gen("show", name, "--spec-dir", str(specs)), 1)
    assert told in said
    assert "  hint: " in said
    if "no spec" in told:
        assert f"engines ignore {specs}/broken.json [CDG-F103]\n" in said
        assert f"see the reasons with: cdi-gen validate {specs}/broken.json\n" in said
        ours = "cdi-gen generate -o" if "nvidia" in name else f"cdi-gen list --spec-dir {specs}"
        assert ours in said, "cdi-gen makes no spec of another vendor's"
