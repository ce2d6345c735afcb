# SPDX-License-Identifier: Apache-2.0
"""The objects of the chart and of kustomize fit the schemas of both releases, by kubeconform."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.kubernetes.test_chart import CREATED, EVERY_CHOICE, GENERATED
from tests.lab.cache import LabUnavailableError
from tests.lab.kubernetes import programs, schemas
from tests.lab.kubernetes.charts import Charts
from tests.metrics.test_monitoring_files import check_object


def check(text: str, version: str) -> list[str]:
    try:
        return schemas.check(text, version)
    except LabUnavailableError as error:
        pytest.skip(f"no kubeconform: {error}")


@pytest.mark.parametrize("version", programs.VERSIONS)
def test_the_objects_of_every_choice_of_values_fit(charts: Charts, version: str) -> None:
    choices = [*EVERY_CHOICE, ("mps.enabled=true", "config.files.default=version: v1")]
    texts = [charts.text(CREATED, *(f"--set={value}" for value in values)) for values in choices]
    assert check("---\n".join(texts), version) == []


@pytest.mark.parametrize("version", programs.VERSIONS)
@pytest.mark.parametrize("name", GENERATED)
def test_the_objects_of_kustomize_fit(charts: Charts, name: str, version: str) -> None:
    assert check(yaml.safe_dump_all(charts.kustomized(name)), version) == []


@pytest.mark.parametrize(
    ("monitor", "kind"), [("pod", "PodMonitor"), ("service", "ServiceMonitor")]
)
def test_the_objects_for_the_prometheus_operator_fit(
    charts: Charts, operator_types: Path, monitor: str, kind: str
) -> None:
    """By the operator's own types; the others by Kubernetes' schemas."""
    values = ("metrics.enabled=true", f"metrics.monitor={monitor}")
    more = ("metrics.monitorEndpoint.interval=30s", "metrics.monitorLabels.release=prometheus")
    manifests = charts.rendered(CREATED, *(f"--set={value}" for value in (*values, *more)))
    (document,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    assert check_object(operator_types, kind, document) == ""
    assert document["metadata"]["labels"]["release"] == "prometheus"
    others = [manifest for manifest in manifests if manifest["kind"] != kind]
    assert check(yaml.safe_dump_all(others), programs.VERSIONS[0]) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("hostPath:", "hostpath:", "hostpath"),
        ("maxUnavailable: 10%", "maxUnavailable: [10]", "maxUnavailable"),
        ("kind: DaemonSet", "kind: DaemonsSet", "could not find schema for DaemonsSet"),
    ],
)
def test_a_fault_is_found(charts: Charts, old: str, new: str, fault: str) -> None:
    text = charts.text(CREATED)
    assert old in text
    faults = check(text.replace(old, new), programs.VERSIONS[0])
    assert any(fault in one for one in faults), faults
