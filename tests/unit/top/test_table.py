# SPDX-License-Identifier: Apache-2.0
"""Tables fit into any width."""

from __future__ import annotations

from cdi_gen.top.glyphs import ASCII
from cdi_gen.top.lines import Piece, plain
from cdi_gen.top.table import Column, Gauge, Past, Row, drawn, head, widths

COLUMNS = (
    Column("name", "NAME", 0, least=4, most=20),
    Column("bar", "", 2, least=4, most=10),
    Column("number", "N", 1, is_right=True),
    Column("history", "PAST", 7, least=4, most=8),
    Column("absent", "ABSENT", 1),
)


def row(name: str, number: str) -> Row:
    return Row(
        {
            "name": Piece(name),
            "bar": Gauge(0.5),
            "number": Piece(number),
            "history": Past((0.0, 1.0)),
        }
    )


ROWS = (row("a-long-name-of-a-container", "7"), row("b", "1234"))


def test_columns_fit_and_those_of_high_rank_are_left_out() -> None:
    shown = {total: widths(COLUMNS, ROWS, total) for total in range(4, 120)}
    for total, of_total in shown.items():
        gap = 2 if total >= 100 else 1
        assert sum(of_total.values()) + gap * (len(of_total) - 1) <= total
    assert shown[4] == {"name": 4}
    assert shown[9] == {"name": 4, "number": 4}
    assert shown[14] == {"name": 4, "bar": 4, "number": 4}
    assert shown[30] == {"name": 20, "bar": 4, "number": 4}
    assert shown[60] == {"name": 20, "bar": 10, "number": 4, "history": 8}


def test_rows_are_aligned_below_their_titles() -> None:
    shown = widths(COLUMNS, ROWS, 45)
    lines = [head(COLUMNS, shown, 45, ASCII), *(drawn(r, COLUMNS, shown, 45, ASCII) for r in ROWS)]
    assert [plain(line).rstrip() for line in lines] == [
        "NAME                               N PAST",
        "a-long-name-of-a-co~ |||||.....    7       _*",
        "b                    |||||..... 1234       _*",
    ]


def test_a_message_takes_the_place_of_the_cells_behind_it() -> None:
    fault = Row({"name": Piece("gpu")}, Piece("does not answer"))
    shown = widths(COLUMNS, (*ROWS, fault), 30)
    assert plain(drawn(fault, COLUMNS, shown, 30, ASCII)) == "gpu                  does not~"


def test_a_text_may_run_over_empty_cells() -> None:
    command = Row({"name": Piece("python train.py --epochs"), "number": Piece("1")}, running="name")
    shown = {"name": 8, "bar": 10, "number": 4}
    assert plain(drawn(command, COLUMNS, shown, 24, ASCII)) == "python train.py --~    1"
