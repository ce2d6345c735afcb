# SPDX-License-Identifier: Apache-2.0
"""The text of families, read back by Prometheus' readers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_gen.metrics import labels
from cdi_gen.metrics.exposition import COUNTER, GAUGE, INFO, Family, render
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.snapshot import Snapshot
from tests.unit.metrics import snapshots
from tests.unit.metrics.parsing import parse, presented


def one(type_: str, name: str, value: float, label: str = "") -> Family:
    family = Family(name, type_, 'A "help"\\ of\nlines')
    family.add(labels.text([("name", label)]), value)
    return family


def test_text_format() -> None:
    assert render([one(GAUGE, "x", 1.5, "a")]) == (
        b'# HELP x A "help"\\\\ of\\nlines\n# TYPE x gauge\nx{name="a"} 1.5\n'
    )


def test_openmetrics_format() -> None:
    assert render([one(GAUGE, "x", 2)], openmetrics=True) == (
        b'# HELP x A \\"help\\"\\\\ of\\nlines\n# TYPE x gauge\nx 2\n# EOF\n'
    )


@pytest.mark.parametrize(
    ("type_", "name", "text_type", "openmetrics_type"),
    [
        (COUNTER, "x_total", "x counter", "x counter"),
        # In OpenMetrics a counter must end with _total; dcgm-exporter's names do not.
        (COUNTER, "X_TOTAL", "X_TOTAL counter", "X_TOTAL unknown"),
        (INFO, "x_info", "x_info gauge", "x info"),
        (GAUGE, "x", "x gauge", "x gauge"),
    ],
)
def test_name_of_sample_is_the_same_in_both_formats(
    type_: str, name: str, text_type: str, openmetrics_type: str
) -> None:
    family = one(type_, name, 1)
    parsed = parse(render([family]))
    strict = parse(render([family], openmetrics=True), is_openmetrics=True)
    assert [" ".join(*parsed.types.items()), " ".join(*strict.types.items())] == [
        text_type,
        openmetrics_type,
    ]
    assert strict.value(name) == 1
    assert f"\n{name} 1\n".encode() in render([family])


def test_family_without_samples_is_left_out() -> None:
    assert render([Family("x", GAUGE, "X.")]) == b""


def test_two_families_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="x"):
        render([one(GAUGE, "x", 1), one(GAUGE, "x", 2)])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_is_dropped(value: float) -> None:
    family = one(GAUGE, "x", value)
    assert (family.samples, family.dropped) == ({}, 1)


def test_negative_counter_is_dropped() -> None:
    assert one(COUNTER, "x_total", -1).dropped == 1
    assert one(GAUGE, "x", -1).dropped == 0


def test_second_sample_with_equal_labels_is_dropped() -> None:
    family = one(GAUGE, "x", 1, "a")
    family.add(labels.text([("name", "a")]), 2)
    assert (list(family.samples.values()), family.dropped) == ([1], 1)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_value_is_read_back(value: float) -> None:
    assert parse(render([one(GAUGE, "x", value)])).value("x") == value


@given(st.text(st.characters()) | st.sampled_from(snapshots.HOSTILE_NAMES))
def test_label_is_read_back(text: str) -> None:
    family = one(GAUGE, "x", 1, text)
    for is_openmetrics in (False, True):
        parsed = parse(render([family], openmetrics=is_openmetrics), is_openmetrics=is_openmetrics)
        assert parsed.labels("x") == [{"name": labels.value(text)} if text else {}]


@given(st.text(st.characters()))
def test_value_of_a_label_is_short_and_printable(text: str) -> None:
    value = labels.value(text)
    assert value.isprintable()
    assert len(value.encode()) <= labels.VALUE_LIMIT


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("é" * 100, "é" * 64),
        ("a" + "é" * 100, "a" + "é" * 63),
        ("x" * 1_000_000, "x" * 128),
        ("a\nb", "a\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("nul\0", "nul\\x00"),
    ],
)
def test_value_of_a_label(text: str, value: str) -> None:
    assert labels.value(text) == value


@pytest.mark.parametrize(
    "snapshot",
    [
        snapshots.idle(),
        snapshots.eight(),
        snapshots.mig(),
        snapshots.shared(),
        snapshots.faults(),
        snapshots.no_driver(),
        snapshots.hostile(),
    ],
    ids=["idle", "eight", "mig", "shared", "faults", "no driver", "hostile"],
)
@pytest.mark.parametrize("names", [("old",), ("new",), ("old", "new")], ids=["old", "new", "both"])
@pytest.mark.parametrize("per_container", [False, True], ids=["device", "container"])
def test_readers_accept_every_snapshot(
    snapshot: Snapshot, names: tuple[str, ...], per_container: bool
) -> None:
    options = Options(names=names, hostname="node-1", per_container=per_container)
    parsed = presented(snapshot, options)
    keys = [(sample.name, frozenset(sample.labels.items())) for sample in parsed.samples]
    assert len(keys) == len(set(keys))
    assert not sum(family.dropped for family in families(snapshot, options))
