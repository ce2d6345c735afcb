# SPDX-License-Identifier: Apache-2.0
"""A record that is damaged, or of another version, is as none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.refresh import check, record
from cdi_gen.refresh.record import NAME, Record, WrittenFile
from cdi_gen.refresh.settings import DEFAULTS, Layout, Request

RECORD = Record(
    request=Request().document(),
    key=["key"],
    choices=[["", "", []], [[], []], ""],
    sources={"/usr/lib/libcuda.so.1": [1, 2, 3]},
    directories={"/run/cdi": [1, 2]},
    files={"/run/cdi/nvidia.json": WrittenFile([1, 2, 3], ["0" * 64])},
    driver_version="550.163.01",
    libraries=("/usr/lib/libcuda.so.550.163.01",),
    other_versions=("535.261.03",),
    left_out=("GPU 1",),
    tree="/run/cdi-gen/driver/550.163.01-0123456789abcdef",
)
ABSURD: list[Any] = [None, 1, 1.5, "text", True, [], [1], [[1]], {}, {"/etc/passwd": 1}]
ABSURD += [{"/etc/passwd": [1, 2]}, {"/etc/passwd": [[], [1]]}, {"/etc/passwd": [[]]}]
ABSURD += [["\0"], "\0", ["\ud800"], {"\0": []}, {"/a\0b": [[1], ["0"]]}]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    if os.geteuid() != os.stat(tmp_path).st_uid:
        pytest.skip("needs a directory of its own")
    record.write(RECORD, str(tmp_path))
    return tmp_path


def test_a_record_is_read_as_it_was_written(state: Path) -> None:
    assert record.load(str(state)) == RECORD


@pytest.mark.parametrize("value", ABSURD, ids=ascii)
@pytest.mark.parametrize("key", RECORD._fields)
def test_no_value_of_a_record_ends_a_check(state: Path, key: str, value: Any) -> None:
    document = {**json.loads((state / NAME).read_bytes()), key: value}
    (state / NAME).write_text(json.dumps(document), encoding="ascii")
    layout = Layout(host_root=str(state))
    for where in (layout, Layout()):
        check.check(where, (), str(state))


@pytest.mark.parametrize("content", ["", "[]", "[" * 200_000, '{"format": 2}', '{"a": 1, "a": 2}'])
def test_what_is_no_record_is_not_read(state: Path, content: str) -> None:
    (state / NAME).write_text(content, encoding="ascii")
    assert record.load(str(state)) is None


@pytest.mark.parametrize("index", range(len(DEFAULTS)))
def test_settings_of_another_type_are_of_another_version(index: int) -> None:
    document: Any = Request().document()
    document[0][index] = 5
    assert Request.of(document) is None
