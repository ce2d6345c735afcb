# SPDX-License-Identifier: Apache-2.0
"""The commands `refresh`, `check` and `diff`: options, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import CHECKOUT, GOLDEN, INVENTORY, SPEC, Result, cdi_gen, failure

NVIDIA = CHECKOUT / "tests/parity/reference/nvidia_ctk"
NO_DRIVER = str(CHECKOUT / "docs")
"""A root directory without a driver."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--wait-driver", "soon"], "--wait-driver: 'soon' is not a number of seconds"),
        (["--wait-driver", "-1"], "--wait-driver: '-1' is not a number of seconds"),
        (["--wait-driver", "nan"], "--wait-driver: 'nan' is not a number of seconds"),
        (["--capabilities", " ,"], "--capabilities is empty"),
        (["--form", "zip"], "'zip' is not one of 'files', 'tree'"),
        (["--output-directory", "cdi"], "'cdi' is not an absolute path"),
    ],
)
def test_options_of_refresh_that_are_refused(options: list[str], message: str) -> None:
    assert message in failure(cdi_gen("refresh", "--host-root", NO_DRIVER, *options), 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('form = "zip"', "form of refresh: unknown value 'zip'"),
        ('hooks = "some"', "hooks of refresh: unknown value 'some'"),
        ("modes = []", "modes of refresh: the list is empty"),
    ],
)
def test_settings_of_refresh_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[refresh]\n{text}\n")
    result = cdi_gen("--config", str(file), "refresh", "--host-root", NO_DRIVER)
    assert message in failure(result, 2)


def test_an_unknown_mode_is_refused_on_a_host_without_a_driver() -> None:
    result = cdi_gen("refresh", "--host-root", NO_DRIVER, "--mode", "nonsense")
    assert "unknown mode nonsense" in failure(result, 2)


def test_refresh_without_a_driver_has_nothing_to_do() -> None:
    result = cdi_gen("refresh", "--host-root", NO_DRIVER, "--wait-driver", "0.1")
    assert "no NVIDIA driver is loaded" in failure(result, 3)


def test_check_without_a_driver_and_without_specs(tmp_path: Path) -> None:
    words = ("check", "--host-root", NO_DRIVER, "--spec-dir", str(tmp_path))
    assert "neither" not in failure(cdi_gen(*words), 3)
    (tmp_path / "nvidia.json").write_text(SPEC)
    result = cdi_gen(*words)
    line = f"{tmp_path}/nvidia.json: no NVIDIA driver is loaded on this host [CDG-V101]\n"
    assert result == Result(5, line, "")
    document = json.loads(cdi_gen(*words, "-o", "json").out)
    assert document["fresh"] is False
    assert [each["code"] for each in document["differences"]] == ["CDG-V101"]


def test_check_ignores_specs_of_other_vendors(tmp_path: Path) -> None:
    device = {
        "name": "0",
        "containerEdits": {"mounts": [{"hostPath": "/none", "containerPath": "/x"}]},
    }
    spec = {"cdiVersion": "0.5.0", "kind": "vendor.com/net", "devices": [device]}
    (tmp_path / "vendor.json").write_text(json.dumps(spec))
    words = ("check", "--host-root", NO_DRIVER, "--spec-dir", str(tmp_path))
    failure(cdi_gen(*words), 3)


def test_check_names_a_file_that_engines_ignore(tmp_path: Path) -> None:
    (tmp_path / "nvidia.json").write_text(SPEC)
    (tmp_path / "broken.json").write_text("{")
    result = cdi_gen("check", "--host-root", NO_DRIVER, "--spec-dir", str(tmp_path))
    assert result.code == 5
    assert f"engines ignore {tmp_path}/broken.json [CDG-F103]" in result.err


def test_a_later_file_decides(tmp_path: Path) -> None:
    """The earlier one is overridden completely, which is no difference."""
    early, late = tmp_path / "etc", tmp_path / "run"
    for directory in (early, late):
        directory.mkdir()
        (directory / "nvidia.json").write_text(SPEC)
    words = ("check", "--host-root", NO_DRIVER, "--spec-dir", str(early), "--spec-dir", str(late))
    result = cdi_gen(*words)
    assert result.out.startswith(f"{late}/nvidia.json: ")
    assert str(early) not in result.out
    assert f"{late}/nvidia.json has priority over {early}/nvidia.json" in result.err


def test_diff_of_equal_sides_prints_nothing() -> None:
    assert cdi_gen("diff", INVENTORY, INVENTORY) == Result(0, "", "")
    spec = str(Path(INVENTORY).with_name("nvidia.json"))
    assert cdi_gen("diff", INVENTORY, spec) == Result(0, "", "")
    document = json.loads(cdi_gen("diff", INVENTORY, spec, "-o", "json").out)
    assert document["different"] is False
    assert document["devices"] == {"added": [], "removed": [], "changed": []}


def test_diff_of_two_hosts() -> None:
    old = str(GOLDEN / "flat-550-1gpu/inventory.json")
    new = str(GOLDEN / "flat-550-mig-mixed/inventory.json")
    result = cdi_gen("diff", old, new)
    assert result.code == 5
    lines = result.out.splitlines()
    assert lines[:2] == [f"--- {old}", f"+++ {new}"]
    assert "+ device 1:0 (MIG-ab100001-c0de-6002-8000-000000003000, mig1:0)" in lines
    assert "+ node /dev/nvidia1" in lines
    document = json.loads(cdi_gen("diff", old, new, "-o", "json").out)
    assert (document["a"], document["b"]) == (old, new)
    assert "/dev/nvidia1" in document["nodes"]["added"]
    reverse = json.loads(cdi_gen("diff", new, old, "-o", "json").out)
    assert reverse["nodes"]["removed"] == document["nodes"]["added"]


def test_diff_of_a_spec_of_nvidia_and_a_host() -> None:
    result = cdi_gen("diff", str(NVIDIA / "1gpu.json"), INVENTORY)
    assert result.code == 5
    assert not [line for line in result.out.splitlines() if " device " in line or " node " in line]
    assert "libnvidia-api.so.1" in result.out


def test_diff_of_a_directory_is_what_engines_read(tmp_path: Path) -> None:
    (tmp_path / "nvidia.json").write_text(SPEC)
    (tmp_path / "other.json").write_text(
        '{"cdiVersion": "0.5.0", "kind": "a.com/b", "devices": []}'
    )
    assert cdi_gen("diff", str(tmp_path), INVENTORY) == Result(0, "", "")
    (tmp_path / "nvidia.json").unlink()
    assert "has NVIDIA devices" in failure(cdi_gen("diff", str(tmp_path), INVENTORY), 1)


def test_diff_of_this_host_that_has_no_driver() -> None:
    failure(cdi_gen("diff", INVENTORY, "--host-root", NO_DRIVER), 3)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "kind: [", '{"formatVersion": 99}'])
def test_diff_of_what_is_neither_spec_nor_inventory(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    message = failure(cdi_gen("diff", str(file), INVENTORY), 1)
    assert f"{file}" in message
