# SPDX-License-Identifier: Apache-2.0
"""Versions of drivers, CUDA, engines and the CDI standard: one grammar and one order."""

from __future__ import annotations

import pytest

from cdi_base import requirement, versions
from cdi_base.cdi.versions import compare
from cdi_gen.cdi import consumers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("575.57.08", (575, 57, 8)),
        ("12.10", (12, 10)),
        ("5", (5,)),
        ("000001.2", (1, 2)),
        # Zeros at the end are dropped, the first number is not.
        ("12.0", (12,)),
        ("12.0.0", (12,)),
        ("1.0.1", (1, 0, 1)),
        ("10.20.0", (10, 20)),
        ("0", (0,)),
        ("0.0.0", (0,)),
        ("0.5.0", (0, 5)),
    ],
)
def test_version_is_parsed_to_its_normal_form(text: str, numbers: tuple[int, ...]) -> None:
    assert versions.parse(text) == numbers


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "1.", ".5", "1..2", "1.2.3.4", "v1.2", "1.2-rc.1", "1.2+ds1", "a.b", "1.2x"),
        *(" 1.2", "1 .2", "1.2\n", "-1", "1.-2", "+1", "1e1", "1_0", "1.٣", "1.\uff12", "1.²"),
        *("1234567", "1.1234567"),
    ],
)
def test_text_that_is_not_a_version_is_none(text: str) -> None:
    assert versions.parse(text) is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        *(("9.2", "12.0"), ("12.9", "12.10"), ("12", "12.4"), ("12.4", "12.4.1"), ("0.0", "0.0.1")),
        ("575.57.08", "575.64.03"),
        ("550.163.01", "575"),
    ],
)
def test_versions_of_any_length_are_ordered_number_by_number(older: str, newer: str) -> None:
    assert versions.at_least(newer, older, unknown=False)
    assert not versions.at_least(older, newer, unknown=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [("12", "12.0"), ("12", "12.0.0"), ("28.2", "28.2.0"), ("575.57.8", "575.57.08"), ("0", "0.0")],
)
def test_zeros_at_the_end_change_nothing(one: str, other: str) -> None:
    assert versions.parse(one) == versions.parse(other)
    assert versions.at_least(one, other, unknown=False)
    assert versions.at_least(other, one, unknown=False)


@pytest.mark.parametrize("version", [None, "", "rolling", "1.2.3.4"])
@pytest.mark.parametrize("unknown", [True, False])
def test_unknown_version_has_the_answer_that_the_caller_gives(
    version: str | None, unknown: bool
) -> None:
    assert versions.at_least(version, "1.7", unknown=unknown) is unknown


@pytest.mark.parametrize("version", [None, "1.8"])
def test_bound_that_is_not_a_version_is_an_error(version: str | None) -> None:
    with pytest.raises(ValueError, match=r"'1\.7\+' is not a version"):
        versions.at_least(version, "1.7+", unknown=True)


def test_callers_with_other_grammars_have_the_same_normal_form() -> None:
    """A requirement may be written `12..0.`, an engine `v12.0.0-rc.1`; both are version 12."""
    twelve = versions.parse("12")
    assert requirement.version("12..0.") == requirement.version("12.0.0.0") == twelve
    assert consumers._numbers(" v12.0.0-rc.1") == consumers._numbers("12+ds1") == twelve
    assert compare("12.0.0", "12.00.0") == 0


def test_cdi_version_has_three_numbers() -> None:
    for text in ("1.0", "1", "1.0.0.0", "v1.0.0"):
        with pytest.raises(ValueError, match="is not a version of the form"):
            compare(text, "1.0.0")
