# SPDX-License-Identifier: Apache-2.0
"""What each key changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.top.view import Order, Pane, Prompt, Shown, View, is_descending, pressed

SHOWN = Shown(
    gpu_rows=8, gpu_height=4, container_rows=50, container_height=10, selected=("docker", "a")
)


def after(keys: list[str], view: View | None = None) -> View:
    """Return the view after keys."""
    view = view or View()
    for key in keys:
        view = pressed(view, key, SHOWN)
    return view


def test_each_key_changes_what_the_help_says() -> None:
    assert after(["q"]).has_quit
    assert after(["f10"]).has_quit
    assert after(["?"]).is_help
    assert after(["Z"]).is_paused
    assert not after(["Z", "p"]).is_paused
    assert after(["I"]).is_inverted
    assert after(["M"]).order is Order.MEMORY
    assert after(["N"]).order is Order.NAME
    assert after(["f6"]).order is Order.MEMORY
    assert after(["<"]).order is Order.PROCESSES
    assert after(["f5"]).is_one_row_each
    assert not after(["g"]).has_gpus
    assert after(["tab"]).is_on_gpus
    assert not after(["g", "tab"]).is_on_gpus
    assert after(["unknown", "", "\udcff"]) == View()


def test_sorting_by_another_value_ends_the_inversion() -> None:
    assert is_descending(after(["M"]))
    assert not is_descending(after(["M", "I"]))
    assert is_descending(after(["I", "P"]))
    assert not is_descending(after(["G"]))


@pytest.mark.parametrize("key", ["enter", " "])
def test_a_container_is_expanded_and_collapsed(key: str) -> None:
    assert after([key]).expanded == {("docker", "a")}
    assert after([key, key]).expanded == frozenset()
    assert after(["right", "right"]).expanded == {("docker", "a")}
    assert after(["right", "left"]).expanded == frozenset()
    assert after(["*"]).is_all_expanded
    assert after(["tab", key]).expanded == frozenset()
    assert pressed(View(), key, replace(SHOWN, selected=None)).expanded == frozenset()


def test_the_filter_is_typed_taken_changed_and_cleared() -> None:
    typing = after([*"/llm q", "backspace", "x"])
    assert typing.prompt is Prompt.FILTER
    assert typing.typed == "llm x"
    assert not typing.has_quit
    assert after(["enter"], typing).words == "llm x"
    assert after(["enter", "f4"], typing).typed == "llm x"
    assert after(["enter", "f4", "ctrl-u", "enter"], typing).words == ""
    assert after(["escape"], typing).words == ""
    assert after(["enter", "escape"], typing).words == ""
    assert len(after([*"/", *"x" * 1000]).typed) == 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0.5", 0.5), ("0,5", 0.5), ("0.01", 0.2), ("99999", 3600), ("", 1), ("x", 1),
     ("nan", 1), ("inf", 3600), ("-3", 1), ("0", 1)],
)  # fmt: skip
def test_the_interval_is_typed(text: str, seconds: float) -> None:
    view = after(["d", *text, "enter"])
    assert view.interval == seconds
    assert view.prompt is None
    assert after(["d", *text, "escape"]).interval == 1


def test_the_selection_moves_and_stays_in_the_table() -> None:
    assert after(["down", "down", "j", "k"]).containers.selected == 2
    assert after(["up"]).containers.selected == 0
    assert after(["page-down"]).containers == Pane(selected=9, first=0)
    assert after(["page-down", "page-down"]).containers == Pane(selected=18, first=9)
    assert after(["end"]).containers == Pane(selected=49, first=40)
    assert after(["end", "home"]).containers == Pane()
    assert after(["tab", "end"]).gpus == Pane(selected=7, first=4)
    assert after(["tab", "end"]).containers == Pane()


def test_the_selection_follows_a_table_that_shrinks() -> None:
    assert Pane(selected=49, first=40).moved(3, 10) == Pane(selected=2, first=0)
    assert Pane(selected=5).moved(0, 10) == Pane()
    assert Pane(selected=5).moved(10, 0) == Pane(selected=5, first=5)


def test_help_is_scrolled_and_left() -> None:
    view = after(["?"])
    shown = Shown(help_rows=5)
    for _ in range(9):
        view = pressed(view, "down", shown)
    assert view.help_first == 4
    assert not pressed(view, "x", shown).is_help
    assert not pressed(view, "q", shown).is_help
    assert not pressed(view, "q", shown).has_quit
