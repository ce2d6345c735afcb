# SPDX-License-Identifier: Apache-2.0
"""Reads families back as Prometheus' own readers do."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cdi_gen.metrics.exposition import render
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.snapshot import Snapshot


class ParsedSample(NamedTuple):
    """A sample as a reader has it."""

    name: str
    labels: dict[str, str]
    value: float


class Parsed(NamedTuple):
    """What a reader has of a text."""

    samples: list[ParsedSample]
    types: dict[str, str]
    """By the name of the family, as the reader understands it."""

    def values(self, name: str, /, **labels: str) -> list[float]:
        """Return the values of samples that have these labels, among others."""
        return [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, /, **labels: str) -> float:
        """Return the value of the only sample that has these labels, among others."""
        (value,) = self.values(name, **labels)
        return value

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of the samples of a name."""
        return [sample.labels for sample in self.samples if sample.name == name]


def parse(text: bytes, *, is_openmetrics: bool = False) -> Parsed:
    """Parse a text, OpenMetrics strictly."""
    read = (
        openmetrics.text_string_to_metric_families
        if is_openmetrics
        else text_string_to_metric_families
    )
    metrics = list(read(text.decode()))
    # The reader of the text format appends _total to samples of counters without it.
    without_total = {
        f"{words[2]}_total": words[2]
        for words in map(str.split, text.decode().splitlines())
        if words[:2] == ["#", "TYPE"] and words[3] == "counter"
        if not is_openmetrics and not words[2].endswith("_total")
    }
    return Parsed(
        [
            ParsedSample(without_total.get(sample.name, sample.name), sample.labels, sample.value)
            for metric in metrics
            for sample in metric.samples
        ],
        {metric.name: metric.type for metric in metrics},
    )


def presented(snapshot: Snapshot, options: Options | None = None) -> Parsed:
    """Return what Prometheus has of a snapshot; both formats must give the same samples."""
    made = families(snapshot, options)
    parsed = parse(render(made))
    strict = parse(render(made, openmetrics=True), is_openmetrics=True)
    differences = {str(sample) for sample in parsed.samples} ^ {str(s) for s in strict.samples}
    assert not differences
    return parsed
