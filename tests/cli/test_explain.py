# SPDX-License-Identifier: Apache-2.0
"""The codes of errors and warnings: where they are shown, and ``cdi-gen explain``."""

from __future__ import annotations

import json

import pytest

from tests.cli.program import cdi_gen


@pytest.mark.parametrize("text", ["CDG-U001", "cdg-u001", "u001", "[CDG-U001]"])
def test_code_is_explained_however_it_is_written(text: str) -> None:
    result = cdi_gen("explain", text)
    assert result.code == 0, result
    assert result.out.startswith("CDG-U001 (error): invalid command line\n")
    assert "  Usual cause: A typing mistake" in result.out
    assert "  What to do: See `cdi-gen COMMAND --help`." in result.out
    assert max(map(len, result.out.splitlines())) <= 88


def test_without_a_code_all_are_listed() -> None:
    lines = cdi_gen("explain").out.splitlines()
    assert lines[0].split(maxsplit=2) == ["CDG-X001", "error", "internal error"]
    assert len(lines) > 200


def test_unknown_code_is_a_usage_error() -> None:
    result = cdi_gen("explain", "CDG-Z999")
    assert result.code == 2
    assert result.err == (
        "cdi-gen: error: unknown code 'CDG-Z999' [CDG-U011]\n"
        "  hint: list all codes with: cdi-gen explain\n"
    )


def test_error_shows_its_code_after_the_message() -> None:
    result = cdi_gen("nonsense")
    assert result.err == (
        "cdi-gen: error: unknown command 'nonsense' [CDG-U001]\n  hint: see: cdi-gen --help\n"
    )


def test_error_has_its_code_in_json() -> None:
    result = cdi_gen("--log-format", "json", "explain", "z999")
    assert json.loads(result.err) == {
        "level": "error",
        "message": "unknown code 'z999'",
        "code": "CDG-U011",
        "hint": "list all codes with: cdi-gen explain",
    }
