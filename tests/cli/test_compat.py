# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen compat``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import cdi_gen
from tests.host.looking import REPOSITORY
from tests.unit.images import layered

INVENTORY = f"{REPOSITORY}/specs/golden/debian-bookworm-tesla-470-2gpu/inventory.json"
"""Driver 470.256.02, CUDA 11.4, two T4."""


def compat(*words: str, code: int) -> str:
    result = cdi_gen("compat", *words, "--inventory", INVENTORY)
    assert (result.code, result.err) == (code, "")
    return result.out


def test_version_that_the_driver_supports() -> None:
    assert "runs: the driver supports the image's CUDA" in compat("--cuda", "11.4", code=0)


def test_version_by_minor_version_compatibility_names_its_limits() -> None:
    output = compat("--cuda", "11.8", code=0)
    assert "runs, by minor-version compatibility" in output
    assert "cudaErrorUnsupportedPtxVersion" in output


def test_version_that_does_not_run_names_the_driver_that_is_needed() -> None:
    output = compat("--cuda", "13.1", code=1)
    assert "does not run" in output
    assert "it needs driver 580.65.06 or newer [CDG-M004]" in output


def test_expression_without_a_version_is_answered_by_itself() -> None:
    assert "unsatisfied" in compat("--require", "driver>=570", code=1)
    assert "satisfied" in compat("--require", "brand=tesla", code=0)


def test_archive_as_json(tmp_path: Path) -> None:
    archive = layered.docker_archive(tmp_path / "image.tar")
    document = json.loads(compat("--archive", str(archive), "-o", "json", code=1))
    assert document["verdict"] == "no"
    assert document["image"]["cuda"] == "12.4.1"
    assert document["requirement"]["verdict"] == "unsatisfied"
    assert document["reasons"][0]["code"] == "CDG-M004"
    assert document["host"]["gpus"][0]["computeCapability"] == "7.5"


def test_directory_without_cuda_is_not_known(tmp_path: Path) -> None:
    assert "not known" in compat("--rootfs", str(tmp_path), code=4)


def test_age_of_the_tables() -> None:
    rows = json.loads(cdi_gen("compat", "--data", "-o", "json").out)
    assert {row["file"] for row in rows} >= {"cuda_toolkits.json", "gpu_support.json"}
    assert all(row["ageDays"] >= 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no image is named"),
        (["x", "--cuda", "12"], "IMAGE and --cuda or --require exclude each other"),
        (["--cuda", "new"], "--cuda 'new' is not a version"),
    ],
)
def test_wrong_command_line(words: list[str], message: str) -> None:
    result = cdi_gen("compat", *words, "--inventory", INVENTORY)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_archive_that_is_missing() -> None:
    result = cdi_gen("compat", "--archive", "/nowhere.tar", "--inventory", INVENTORY)
    assert (result.code, result.out) == (1, "")
    assert "/nowhere.tar: No such file or directory [CDG-M022]" in result.err
