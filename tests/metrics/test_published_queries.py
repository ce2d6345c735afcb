# SPDX-License-Identifier: Apache-2.0
"""Published dashboards and alerts for dcgm-exporter have results with our metrics, in a real PromQL engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from cdi_gen.containers.model import Holder
from cdi_gen.metrics.catalogue import absent_fields, clock_events, keys
from cdi_gen.metrics.events import RecentEvents
from cdi_gen.metrics.exposition import COUNTER, Family, render
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from cdi_gen.telemetry.model import LinkReading
from tests.lab import prometheus
from tests.unit.metrics import snapshots

QUERIES = json.loads(Path(__file__).with_name("published_queries.json").read_text("utf-8"))
IDLE, TROUBLE = "idle", "trouble"

MINUTES = 20
VARIABLES = {"Hostname": "node-1", "gpu": ".+", "instance": "gpu1:9400"}
GROUPING = re.compile(r"\bby ?\(([^)]*)\)")
METRIC = re.compile(r"\bDCGM_[A-Z0-9_]+")
NOT_OF_THE_EXPORTER = {"instance", "node"}
"""Labels that Prometheus or its configuration adds."""
NOT_OF_DCGM_EXPORTER = {"uuid"}
"""Labels that dashboards have and dcgm-exporter has not: Prometheus takes them as empty."""


class Query(NamedTuple):
    """A published expression."""

    expression: str
    state: str
    """Of the GPU on which it has a result; ``any``: idle."""


def queries() -> Iterator[Query]:
    for group in QUERIES["queries"]:
        for expression in group["expressions"]:
            yield Query(expression, IDLE if group["state"] == "any" else group["state"])


def host(state: str) -> Snapshot:
    """Return two GPUs in pods and one with a MIG device in a pod; NVML tells everything."""
    quantities: dict[str, float] = dict.fromkeys(keys(), 0)
    if state == TROUBLE:
        quantities = dict.fromkeys(keys(), 1)
        quantities |= {
            "gpu_temp_celsius": 95,
            "gpu_temp_slowdown_celsius": 89,
            "board_power_watts": 700,
            "board_power_limit_requested_watts": 700,
            "board_power_limit_enforced_watts": 700,
            "fb_used_bytes": 79 << 30,
            "fb_capacity_bytes": 80 << 30,
            "fb_free_bytes": 512 << 20,
            "xid_error": 79,
        }
    gpus = [
        snapshots.gpu(
            number,
            quantities,
            xids={79: 1} if state == TROUBLE else {},
            clock_event_counts=dict.fromkeys(clock_events(), int(state == TROUBLE)),
            links=(LinkReading(number=0, quantities=dict.fromkeys(keys("link"), 1.0)),),
        )
        for number in range(2)
    ]
    device = snapshots.mig_device(2, 0, "1g.10gb", quantities=quantities)
    gpus.append(snapshots.gpu(2, quantities, mig_enabled=True, mig=(device,)))
    uses = tuple(
        ContainerUse(
            holder=Holder(container=snapshots.pod_container(number), devices=()), device=index
        )
        for number, index in ((1, "0"), (2, "1"), (3, "2:0"))
    )
    return Snapshot(reading=snapshots.reading(*gpus), uses=uses)


def of_host(state: str) -> tuple[Family, ...]:
    snapshot = host(state)
    options = Options(hostname=VARIABLES["Hostname"])
    return families(snapshot, options, RecentEvents().update(snapshot.reading))


def label_names(state: str) -> Mapping[str, set[str]]:
    """Return the names of labels by the name of a metric."""
    return {
        family.name: {name for text in family.samples for name in re.findall(r'(\w+)="', text)}
        for family in of_host(state)
        if family.samples
    }


@pytest.mark.parametrize("query", [*queries()], ids=lambda query: query.expression[:80])
def test_metrics_and_labels_exist(query: Query) -> None:
    labels = label_names(query.state)
    names = set(METRIC.findall(query.expression))
    assert names
    assert names <= labels.keys()
    known = set.union(NOT_OF_THE_EXPORTER, NOT_OF_DCGM_EXPORTER, *labels.values())
    for grouping in GROUPING.findall(query.expression):
        assert {label.strip() for label in grouping.split(",")} <= known


def test_what_published_queries_use_and_nvml_cannot_give_is_in_the_docs() -> None:
    absent = {name for field in absent_fields() for name in field.names}
    assert {entry["name"] for entry in QUERIES["absent"]} <= absent


def series(state: str, *, is_kubernetes: bool) -> list[dict[str, str]]:
    """Return what Prometheus has of the host after some minutes; counters grow.

    With the discovery of Kubernetes the target has labels of its own pod, and Prometheus renames
    ours.
    """
    own = 'instance="gpu1:9400",job="gpu"'
    made = []
    for family in of_host(state):
        for text, value in family.samples.items():
            labels = text
            if is_kubernetes:
                labels = re.sub(r'\b(pod|namespace|container)="', r'exported_\1="', text)
                labels = f'{labels},pod="cdi-gen-x",namespace="gpu",container="metrics"'
            step = 1e9 if family.type == COUNTER and state == TROUBLE else 0
            made.append(
                {
                    "series": f"{family.name}{{{labels},{own}}}".replace("{,", "{"),
                    "values": f"{float(value)}+{step}x{4 * MINUTES}",
                }
            )
    return made


def unit_test(state: str, *, is_kubernetes: bool) -> dict[str, Any]:
    """Return a test of promtool: each expression has a result."""
    expressions = []
    for query in queries():
        if query.state != state or ("exported_" in query.expression) != is_kubernetes:
            continue
        text = query.expression.removesuffix(" or vector(0)")
        for name, value in VARIABLES.items():
            text = text.replace(f"${name}", value)
        expressions.append(
            {
                "expr": f"count({text}) > bool 0",
                "eval_time": f"{MINUTES - 1}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        )
    return {
        "interval": "15s",
        "input_series": series(state, is_kubernetes=is_kubernetes),
        "promql_expr_test": expressions,
    }


def test_each_query_has_a_result(prometheus_of: Callable[[str], Path], tmp_path: Path) -> None:
    prometheus_of(prometheus.NEWEST)
    tests = [
        unit_test(IDLE, is_kubernetes=False),
        unit_test(IDLE, is_kubernetes=True),
        unit_test(TROUBLE, is_kubernetes=False),
    ]
    assert sum(len(test["promql_expr_test"]) for test in tests) == len([*queries()])
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"tests": tests}), "utf-8")
    tested = prometheus.promtool("test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    "snapshot",
    [snapshots.eight(), snapshots.mig(), snapshots.faults(), snapshots.hostile()],
    ids=["eight", "mig", "faults", "hostile"],
)
@pytest.mark.parametrize("names", [("old",), ("old", "new")], ids=["old", "both"])
@pytest.mark.parametrize("suite", ["bookworm", prometheus.NEWEST])
def test_promtool_finds_faults_only_in_names_of_dcgm_exporter(
    suite: str, names: tuple[str, ...], snapshot: Snapshot, prometheus_of: Callable[[str], Path]
) -> None:
    """promtool wants counters to end with _total, and no unit of another scale."""
    prometheus_of(suite)
    text = render(families(snapshot, Options(names=names, hostname="node-1")))
    checked = prometheus.promtool("check", "metrics", suite=suite, stdin=text)
    assert checked.returncode in {0, 3}, checked.stderr
    faults = checked.stderr.splitlines() + checked.stdout.splitlines()
    assert [line for line in faults if not line.startswith("DCGM_")] == []
