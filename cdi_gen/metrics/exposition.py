# SPDX-License-Identifier: Apache-2.0
"""Families of samples, and their text for Prometheus: text format 0.0.4 and OpenMetrics 1.0; pure.

Names are the same in both formats. OpenMetrics allows only names in ``_total`` for counters; a
counter with another name, as dcgm-exporter has them, has the type ``unknown`` there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

GAUGE, COUNTER, INFO = "gauge", "counter", "info"

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_TOTAL, _INFO = "_total", "_info"
_EXACT = 1 << 53


class Family:
    """Samples with one name. Samples that no reader would accept are dropped and counted."""

    __slots__ = ("dropped", "help", "name", "samples", "type")

    def __init__(self, name: str, type: str, help: str) -> None:  # noqa: A002 - the words of the format
        self.name = name
        """The name of the samples."""
        self.type = type
        """``gauge``, ``counter`` or ``info``."""
        self.help = help
        self.samples: dict[str, float] = {}
        """The values, by the text of their labels."""
        self.dropped = 0

    def add(self, labels: str, value: float) -> None:
        """Add a sample.

        It is dropped if its labels have a sample already, if its value is not finite, or if it is
        a counter below 0.
        """
        if (
            labels in self.samples
            or not math.isfinite(value)
            or (value < 0 and self.type == COUNTER)
        ):
            self.dropped += 1
        else:
            self.samples[labels] = value


def render(families: Iterable[Family], *, openmetrics: bool = False) -> bytes:
    """Return the text of families; those without samples are left out."""
    lines: list[str] = []
    names: set[str] = set()
    for family in families:
        if not family.samples:
            continue
        if family.name in names:
            raise ValueError(f"two families have the name {family.name}")
        names.add(family.name)
        lines += _head(family, openmetrics=openmetrics)
        name = family.name
        lines += [
            f"{name}{{{labels}}} {_number(value)}" if labels else f"{name} {_number(value)}"
            for labels, value in family.samples.items()
        ]
    if openmetrics:
        lines.append("# EOF")
    lines.append("")
    return "\n".join(lines).encode()


def _head(family: Family, *, openmetrics: bool) -> tuple[str, str]:
    name, type_ = family.name, family.type
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        text = text.replace('"', '\\"')
        if type_ == COUNTER and name.endswith(_TOTAL):
            name = name[: -len(_TOTAL)]
        elif type_ == INFO:
            name = name[: -len(_INFO)]
        elif type_ == COUNTER:
            type_ = "unknown"
    elif type_ == INFO:
        type_ = GAUGE
    return f"# HELP {name} {text}", f"# TYPE {name} {type_}"


def _number(value: float) -> str:
    """Return a finite number; whole numbers without a decimal point."""
    if isinstance(value, int) or (value.is_integer() and -_EXACT < value < _EXACT):
        return str(int(value))
    return repr(value)
