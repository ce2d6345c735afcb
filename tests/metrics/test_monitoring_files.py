# SPDX-License-Identifier: Apache-2.0
"""The files of deploy/monitoring: rules by promtool, the dashboard by Grafana's published schema."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cdi_gen.metrics.catalogue import NEW, OLD
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.own.families import families as own_families
from cdi_gen.metrics.own.model import DevicePluginState, DoctorState, OwnState, SpecState
from cdi_gen.xids import catalogue as xids
from tests.host.looking import REPOSITORY
from tests.lab import prometheus
from tests.metrics import dashboard
from tests.unit.metrics import snapshots

MONITORING = REPOSITORY / "deploy/monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yml"))
ALERTS = MONITORING / "rules/cdi-gen-alerts.yml"
UNIT_TESTS = Path(__file__).with_name("alert_rules.test.yml")
INSTALLED = "/etc/prometheus/cdi-gen"

Programs = Callable[[str], Path]


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@pytest.mark.parametrize("suite", ["bookworm", prometheus.NEWEST])
def test_rules_are_valid(suite: str, prometheus_of: Programs) -> None:
    """By Prometheus 2.42 and 3."""
    prometheus_of(suite)
    words = ("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))
    checked = prometheus.promtool(*words, suite=suite)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_when_they_should(prometheus_of: Programs) -> None:
    prometheus_of(prometheus.NEWEST)
    tested = prometheus.promtool("test", "rules", str(UNIT_TESTS))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    fires: set[str] = set()
    is_silent: set[str] = set()
    for case in yaml.safe_load(UNIT_TESTS.read_text("utf-8"))["tests"]:
        for expected in case.get("alert_rule_test", ()):
            (fires if expected["exp_alerts"] else is_silent).add(expected["alertname"])
    assert fires == is_silent == set(alerts())


def test_each_alert_says_what_to_do() -> None:
    text = (REPOSITORY / "docs/alerts.md").read_text("utf-8")
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_xids_are_those_of_nvidias_catalogue() -> None:
    """Unknown Xids are errors of the GPU, as for the device plugin."""
    harmless = {str(number) for number, xid in xids().items() if xid.is_harmless}
    of_programs = {str(number) for number, xid in xids().items() if xid.action == "RESTART_APP"}
    error, of_program = (
        re.search(rf'xid{operator}"([\d|]+)"', alerts()[name]["expr"])
        for name, operator in (("CdiGenXidError", "!~"), ("CdiGenApplicationXid", "=~"))
    )
    assert error
    assert of_program
    assert set(error[1].split("|")) == harmless
    assert set(of_program[1].split("|")) == of_programs


# Debian 12 has Prometheus without Kubernetes.
@pytest.mark.parametrize(
    ("suite", "name"),
    [("bookworm", "hosts"), (prometheus.NEWEST, "hosts"), (prometheus.NEWEST, "kubernetes")],
)
def test_scrape_configuration_is_valid(
    suite: str, name: str, prometheus_of: Programs, tmp_path: Path
) -> None:
    """With the files that it names: rules, certificate, password, hosts."""
    prometheus_of(suite)
    for rules in RULES:
        (tmp_path / rules.name).write_text(rules.read_text("utf-8"))
    (tmp_path / "hosts.json").write_text(json.dumps([{"targets": ["gpu1.example.com:9400"]}]))
    for file in ("ca.pem", "password"):
        (tmp_path / file).touch()
    text = (MONITORING / f"prometheus/{name}.yml").read_text("utf-8")
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(text.replace(INSTALLED, str(tmp_path)))
    checked = prometheus.promtool("check", "config", str(configuration), suite=suite)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rule files found" in checked.stdout


def test_file_for_the_operator_has_the_rules(request: pytest.FixtureRequest) -> None:
    file = MONITORING / "prometheus-rule.yaml"
    text = operator_rules()
    if request.config.getoption("--update-golden"):
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text, "run: make golden"


def operator_rules() -> str:
    """Return the rules as an object of the Prometheus operator."""
    groups = [group for rules in RULES for group in yaml.safe_load(rules.read_text())["groups"]]
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "cdi-gen",
            "namespace": "cdi-gen",
            "labels": {"app.kubernetes.io/name": "cdi-gen"},
        },
        "spec": {"groups": groups},
    }
    head = "# SPDX-License-Identifier: Apache-2.0\n# Made of the files in rules: make golden\n"
    return head + yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)


def test_file_for_the_operator_has_the_operators_form(operator_types: Path) -> None:
    document = yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text("utf-8"))
    assert check_object(operator_types, "PrometheusRule", document) == ""
    document["spec"]["groups"][0]["rules"][0]["wait"] = "5m"
    assert "wait" in check_object(operator_types, "PrometheusRule", document)


def check_object(program: Path, kind: str, document: dict[str, Any]) -> str:
    """Return what the Prometheus operator's types say against an object."""
    command = [str(program), kind]
    text = json.dumps(document)
    return subprocess.run(command, input=text, stderr=-1, text=True, check=False).stderr


METRIC = re.compile(r"\b(?:DCGM_[A-Z0-9_]+|(?<!:)cdi_gen_[a-z0-9_]+)\b(?!:)")
OF_THE_SERVER = {"cdi_gen_metrics_snapshot_age_seconds"}


def metric_names() -> set[str]:
    """Return the names of all metrics, under both sets of names."""
    both = families(snapshots.idle(), Options(names=(OLD, NEW)))
    state = OwnState(specs=SpecState(), doctor=DoctorState(), device_plugin=DevicePluginState())
    return {family.name for family in (*both, *own_families(state, 0.0))} | OF_THE_SERVER


def test_expressions_use_metrics_that_exist() -> None:
    """A name that does not exist gives a panel without data, and an alert that never fires."""
    expressions = [query.expression for query in dashboard.queries()]
    for file in RULES:
        for group in yaml.safe_load(file.read_text("utf-8"))["groups"]:
            expressions += [rule["expr"] for rule in group["rules"]]
    used = {name for expression in expressions for name in METRIC.findall(expression)}
    assert len(used) > 50
    assert used - metric_names() == set()


def test_dashboard_has_grafanas_form(grafana_schema: Path) -> None:
    checked = check_schema(grafana_schema, dashboard.load())
    assert checked.returncode == 0, checked.stderr


def test_check_of_the_dashboard_can_fail(grafana_schema: Path) -> None:
    board = dashboard.load()
    board["panels"][1]["options"]["unit"] = "bytes"
    assert "panels[1].options" in check_schema(grafana_schema, board).stderr


def check_schema(program: Path, board: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    text = json.dumps(board)
    return subprocess.run([str(program)], input=text, capture_output=True, text=True, check=False)


def test_panels_do_not_overlap() -> None:
    cells: dict[tuple[int, int], str] = {}
    for panel in dashboard.load()["panels"]:
        position = panel["gridPos"]
        for x in range(position["x"], position["x"] + position["w"]):
            for y in range(position["y"], position["y"] + position["h"]):
                assert x < 24
                assert cells.setdefault((x, y), panel["title"]) == panel["title"]
