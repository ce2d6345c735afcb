# SPDX-License-Identifier: Apache-2.0
"""The value ``Finding``, and errors as findings."""

from __future__ import annotations

import pytest

from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError, InterruptedByUserError


def test_findings_of_the_same_fields_are_equal() -> None:
    one = Finding("CDG-H301", "warning", "text", subject="/dev/nvidia0")
    same = Finding("CDG-H301", "warning", "text", subject="/dev/nvidia0")
    assert one == same
    assert hash(one) == hash(same)
    assert one != Finding("CDG-H301", "warning", "text", subject="/dev/nvidia1")


def test_fields_are_all_there() -> None:
    finding = Finding("CDG-E105", "info", "text", subject="s", fix="f", source="p")
    assert finding.fields() == {
        "code": "CDG-E105",
        "severity": "info",
        "subject": "s",
        "message": "text",
        "fix": "f",
        "source": "p",
    }


def test_error_of_the_library_is_a_finding() -> None:
    error = CdiGenError("text", hint="do", code="CDG-F001", subject="/x")
    assert error.finding == Finding("CDG-F001", "error", "text", subject="/x", fix="do")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InterruptedByUserError("text"), "CDG-X002"),
        (InterruptedByUserError("text", code="CDG-X001"), "CDG-X001"),
        (HookError("text", code="CDG-K001"), "CDG-K001"),
    ],
)
def test_code_is_of_the_class_or_of_the_error(error: CdiGenError | HookError, code: str) -> None:
    assert error.code == code
    assert str(error) == "text"
