# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard of deploy/monitoring, and its queries as Grafana would send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.host.looking import REPOSITORY

FILE = REPOSITORY / "deploy/monitoring/grafana/cdi-gen.json"

VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "1h",
    "$instance": ".+",
    "$gpu": ".+",
    "$namespace": ".*",
    "$name": ".*",
}
"""What Grafana inserts: all values of each variable."""


class Query(NamedTuple):
    """An expression of a panel."""

    panel: str
    expression: str


def load() -> dict[str, Any]:
    """Return the dashboard."""
    board: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return board


def queries() -> Iterator[Query]:
    """Yield each query of each panel, with all hosts, GPUs and containers."""
    for panel in load()["panels"]:
        for target in panel.get("targets", ()):
            yield Query(panel["title"], inserted(target["expr"]))


def inserted(expression: str) -> str:
    """Return an expression with the values of the variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression
