# SPDX-License-Identifier: Apache-2.0
"""The result of the last refresh, which metrics read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdi_gen.refresh import result


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result.write(5, str(tmp_path))
    last = result.load(str(tmp_path))
    assert last is not None
    assert last.exit_code == 5
    assert last.time == pytest.approx((tmp_path / result.NAME).stat().st_mtime, abs=60)


def test_nothing_is_left_of_a_longer_result(tmp_path: Path) -> None:
    (tmp_path / result.NAME).write_text(" " * 200 + "x")
    result.write(0, str(tmp_path))
    assert result.load(str(tmp_path)) is not None


def test_no_directory_is_created(tmp_path: Path) -> None:
    result.write(0, str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_a_refresh_with_nothing_to_do_keeps_the_time_of_a_success(tmp_path: Path) -> None:
    result.write(0, str(tmp_path))
    before = (tmp_path / result.NAME).read_text()
    result.write(0, str(tmp_path), is_new=False)
    assert (tmp_path / result.NAME).read_text() == before


def test_a_refresh_with_nothing_to_do_replaces_a_failure(tmp_path: Path) -> None:
    result.write(5, str(tmp_path))
    result.write(0, str(tmp_path), is_new=False)
    last = result.load(str(tmp_path))
    assert last is not None
    assert last.exit_code == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"time": 1, "exit_code": "0"}',
        '{"time": "1", "exit_code": 0}',
        '{"time": 1}',
    ],
)
def test_another_document_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / result.NAME).write_text(text)
    assert result.load(str(tmp_path)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_another_user_is_no_result(tmp_path: Path) -> None:
    result.write(0, str(tmp_path))
    os.chown(tmp_path / result.NAME, 1000, 1000)
    assert result.load(str(tmp_path)) is None
