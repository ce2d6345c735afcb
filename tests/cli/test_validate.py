# SPDX-License-Identifier: Apache-2.0
"""``validate``: every problem with its place, whatever the file holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import GOLDEN, ONE_GPU, SPEC, cdi_gen, failure


def test_validate_says_every_problem_with_its_place(tmp_path: Path) -> None:
    document = json.loads(SPEC)
    document["cdiVersion"] = "0.2.0"
    document["devices"][0]["containerEdits"]["deviceNodes"][0]["path"] = ""
    document["devices"][1]["name"] = "0"
    document["containerEdits"]["hooks"][0]["hookName"] = "sometimes"
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    text = cdi_gen("validate", str(path))
    assert (text.code, text.err) == (6, "")
    found = cdi_gen("validate", "-o", "json", str(path), str(ONE_GPU / "nvidia.json"))
    assert found.code == 6
    bad, good = json.loads(found.out)
    assert good["problems"] == []
    places = [each["path"] for each in bad["problems"]]
    for place in (
        ".devices[0].containerEdits.deviceNodes[0].path",
        ".devices[1].name",
        ".containerEdits.hooks[0].hookName",
    ):
        assert place in places
        assert f"{path}: fatal: {place}: " in text.out
    assert all(each["consequence"] and each["message"] for each in bad["problems"])
    assert all("1.1.1" in each["refusedBy"] for each in bad["problems"])
    assert text.out.count(f"{path}: ") == len(places)


@pytest.mark.parametrize("name", ["nvidia.json", "cap.json", "nohooks.json"])
def test_our_own_specs_are_valid(name: str) -> None:
    files = [str(path) for path in sorted(GOLDEN.glob(f"*/{name}"))]
    found = cdi_gen("validate", *files)
    assert found.code == 0
    assert found.out.splitlines() == [f"{path}: ok" for path in files]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "fatal"),
        (b"\x7fELF\x02\x01\x01" + bytes(range(256)), "not UTF-8 text"),
        (b"a: [", "line"),
        (b"[" * 100_000, "nested too deeply"),
        (SPEC.encode() + b" " * (5 << 20), "more than 4194304 bytes"),
        (SPEC.encode("utf-16")[:-1], "not UTF-8 text"),
        (SPEC.replace('"0.5.0"', "NaN", 1).encode(), "NaN"),
        (b"a: &a [*a]", ""),
    ],
)
def test_validate_takes_anything(content: bytes, told: str) -> None:
    found = cdi_gen("validate", "-", input=content)
    assert found.code == 6
    assert found.out.startswith("-: fatal: ")
    assert told in found.out
    assert len(found.out) < 1000
    assert found.err == ""


def test_validate_of_what_can_not_be_read(tmp_path: Path) -> None:
    failure(cdi_gen("validate", str(tmp_path)), 1)
    failure(cdi_gen("validate", str(tmp_path / "none.json")), 1)
