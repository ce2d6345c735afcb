# SPDX-License-Identifier: Apache-2.0
"""Names are printed in the columns that they are said to take; bars and histories are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_gen.top.glyphs import ASCII, UNICODE, cut, of_locale, width


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        pytest.param("web-1", "web-1", id="usual"),
        pytest.param("a\x1b[2Jb", r"a\x1b[2Jb", id="escape-sequence"),
        pytest.param("a\0b\nc\td", r"a\x00b\nc\td", id="control-characters"),
        pytest.param("\x9b31m", r"\x9b31m", id="control-sequence-in-one-byte"),
        pytest.param("a\u202eb", r"a\u202eb", id="override-of-the-direction"),
        pytest.param("\u05d0\u05d1", r"\u05d0\u05d1", id="letters-from-right-to-left"),
        pytest.param("e\u0301", "\u00e9", id="composed"),
        pytest.param("a\u0316\u0317", r"a\u0316\u0317", id="marks-below"),
        pytest.param("\u200b\ufeff", r"\u200b\ufeff", id="without-a-width"),
        pytest.param("\u6f22\u5b57", "\u6f22\u5b57", id="two-columns-wide"),
        pytest.param("\u1100\u1161", "\uac00", id="composed-korean"),
        pytest.param("\u1161", r"\u1161", id="a-vowel-alone"),
        pytest.param("\udcff", r"\udcff", id="not-utf-8"),
        pytest.param("\U0001f469\u200d\U0001f680", "\U0001f469\\u200d\U0001f680", id="joined"),
    ],
)
def test_hostile_names_are_escaped(name: str, printed: str) -> None:
    assert UNICODE.clean(name) == printed
    assert ASCII.clean(name).isascii()
    assert ASCII.clean(name).isprintable()


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_a_name_is_cut_to_its_columns(name: str, columns: int) -> None:
    for glyphs in (UNICODE, ASCII):
        text = glyphs.clean(name)
        assert text.isprintable()
        assert width(cut(text, columns, glyphs.ellipsis)) <= columns


def test_a_wide_character_is_not_halved() -> None:
    assert cut("\u6f22\u5b57\u6f22", 4, "~") == "\u6f22~"


def test_a_bar_shows_what_is_not_zero_and_is_never_longer() -> None:
    assert ASCII.bar(0, 4) == ("", "....")
    assert ASCII.bar(0.001, 4) == ("|", "...")
    assert ASCII.bar(0.5, 4) == ("||", "..")
    assert ASCII.bar(7, 4) == ("||||", "")


def test_a_history_has_a_gap_where_nothing_is_known() -> None:
    assert ASCII.history((1.0, None, 0.0), 5) == "  * _"
    assert ASCII.history((0.0, 1.0), 1) == "*"


@pytest.mark.parametrize(
    ("environment", "encoding", "is_ascii"),
    [
        pytest.param({"LANG": "de_DE.UTF-8"}, "UTF-8", False, id="utf-8"),
        pytest.param({"LANG": "C.UTF-8"}, "UTF-8", False, id="c-utf-8"),
        pytest.param({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "UTF-8", True, id="coerced-by-python"),
        pytest.param({"LC_CTYPE": "C.UTF-8"}, "UTF-8", True, id="no-locale"),
        pytest.param({"LANG": "de_DE"}, "ISO-8859-1", True, id="latin-1"),
        pytest.param({"LANG": "C.UTF-8", "TERM": "linux"}, "UTF-8", True, id="console"),
    ],
)  # fmt: skip
def test_characters_follow_the_locale(
    environment: dict[str, str], encoding: str, is_ascii: bool
) -> None:
    assert of_locale(environment, encoding).is_ascii is is_ascii
