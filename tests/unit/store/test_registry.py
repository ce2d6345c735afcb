# SPDX-License-Identifier: Apache-2.0
"""Spec directories, as engines read and resolve them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

from cdi_gen import store
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from tests.unit.store.specs import SPEC, TEXT, spec


def put(directory: Path, name: str, content: Spec | str) -> str:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(content if isinstance(content, str) else wire.dump(content))
    return str(path)


def resolved(directories: Iterable[Path]) -> dict[str, str | None]:
    registry = store.read([str(directory) for directory in directories])
    return {device.name: device.file.path if device.file else None for device in registry.devices}


def resolution(registry: store.Registry, name: str) -> store.Resolution:
    device = registry.find(name)
    assert device is not None
    return device


def test_a_file_defines_its_devices(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", SPEC)
    assert resolved([tmp_path]) == {"vendor.example/gpu=0": path, "vendor.example/gpu=1": path}


def test_the_later_directory_wins_and_the_earlier_is_shadowed(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "run"
    shadowed, winner = put(first, "z.json", spec("0", "1")), put(second, "a.yaml", spec("0"))
    registry = store.read([str(first), str(second)])
    device = resolution(registry, "vendor.example/gpu=0")
    assert device.file is not None
    assert device.file.path == winner
    assert [file.path for file in device.shadowed] == [shadowed]
    other = resolution(registry, "vendor.example/gpu=1")
    assert other.file is not None
    assert other.file.path == shadowed
    assert registry.find("vendor.example/gpu=2") is None


def test_two_files_of_one_directory_cancel_each_other_out(tmp_path: Path) -> None:
    """A53 cdi-conflict."""
    paths = [put(tmp_path, "a.json", spec("0", "1")), put(tmp_path, "b.json", spec("0"))]
    device = resolution(store.read([str(tmp_path)]), "vendor.example/gpu=0")
    assert device.file is None
    assert [file.path for file in device.conflicting] == paths
    assert resolved([tmp_path])["vendor.example/gpu=1"] == paths[0]


def test_a_conflict_below_is_not_healed_above(tmp_path: Path) -> None:
    # cache.go, refresh(): a name in conflict is deleted, even if a later directory defines it.
    first, second = tmp_path / "etc", tmp_path / "run"
    put(first, "a.json", spec("0"))
    put(first, "b.json", spec("0"))
    above = put(second, "c.json", spec("0"))
    device = resolution(store.read([str(first), str(second)]), "vendor.example/gpu=0")
    assert device.file is None
    assert [file.path for file in device.shadowed] == [above]


def test_the_same_name_of_another_kind_is_another_device(tmp_path: Path) -> None:
    put(tmp_path, "a.json", spec("0"))
    put(tmp_path, "b.json", spec("0", kind="vendor.example/nic"))
    assert None not in resolved([tmp_path]).values()
    assert len(resolved([tmp_path])) == 2


@pytest.mark.parametrize("name", ["a.yml", "a.conf", "a", "a.JSON", "a.json.tmp", "json"])
def test_other_suffixes_are_not_read(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, SPEC)
    assert store.read([str(tmp_path)]).files == ()


def test_subdirectories_and_missing_directories_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "sub.json", "a.json", SPEC)
    assert store.read([str(tmp_path / "none"), str(tmp_path)]).files == ()


def test_json_in_a_yaml_file_and_yaml_in_a_json_file(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", spec("0"))
    put(tmp_path, "b.json", wire.dump(spec("1"), "yaml"))
    assert set(resolved([tmp_path])) == {"vendor.example/gpu=0", "vendor.example/gpu=1"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        '{"cdiVersion": "9.9.9"}',
        wire.dump(spec("0", "0")),
        wire.dump(spec("0")).replace("gpu", "-"),
    ],
)
def test_a_broken_file_is_data_and_its_neighbours_are_read(tmp_path: Path, content: str) -> None:
    broken = put(tmp_path, "a.json", content)
    good = put(tmp_path, "b.json", SPEC)
    files = {file.path: file for file in store.read([str(tmp_path)]).files}
    assert files[broken].spec is None
    assert any(problem.severity == "fatal" for problem in files[broken].problems)
    assert files[good].spec == SPEC
    assert files[good].problems == ()


def test_faults_that_engines_let_pass_are_told_too(tmp_path: Path) -> None:
    document = json.loads(TEXT) | {"cdiVersion": "0.6.0"}
    put(tmp_path, "a.json", json.dumps(document))
    (file,) = store.read([str(tmp_path)]).files
    assert file.spec is not None
    assert [problem.path for problem in file.problems] == [".cdiVersion"]


def test_a_fifo_or_a_device_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to("/dev/zero")
    (tmp_path / "c.json").symlink_to("nowhere")
    files = store.read([str(tmp_path)]).files
    assert [file.problems[0].message for file in files] == ["is not a regular file"] * 2


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.json", SPEC)

    def refuse(*_arguments: object, **_named: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        (file,) = store.read([str(tmp_path)]).files
    assert "Permission denied" in file.problems[0].message
    monkeypatch.setattr(os, "listdir", refuse)
    (directory,) = store.read([str(tmp_path)]).files
    assert directory.path == str(tmp_path)
