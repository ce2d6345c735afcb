# SPDX-License-Identifier: Apache-2.0
"""The files of ``deploy/`` that can be read without helm and kustomize."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cdi_base import VERSION

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
CHART = DEPLOY / "helm/cdi-gen"
FILES = sorted([*DEPLOY.glob("kustomize/**/*.yaml"), *DEPLOY.glob("examples/*.yaml")])


def documents(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def test_the_chart_has_the_version_of_the_programs() -> None:
    (chart,) = documents(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_the_readme_names_this_version_and_files_that_exist() -> None:
    section = (
        (DEPLOY.parent / "README.md").read_text().partition("## A cluster in five commands")[2]
    )
    commands = [line for line in section.partition("## ")[0].splitlines() if line[:4] == "    "]
    assert len(commands) == 5
    text = "\n".join(commands)
    assert f"cdi-gen-image-{VERSION}-x86_64.tar docker://registry.example/cdi-gen:{VERSION}" in text
    assert "kubectl wait --timeout=" in text  # the default, 30 s, is less than a pull of an image
    for name in ("deploy/helm/cdi-gen", "deploy/examples/cuda.yaml"):
        assert name in text
        assert (DEPLOY.parent / name).exists()


def test_the_schema_of_the_chart_has_every_value() -> None:
    (values,) = documents(CHART / "values.yaml")
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.validate(values, schema)
    assert schema["properties"].keys() - {"global"} == values.keys()
    for name, properties in schema["properties"].items():
        if "properties" in properties:
            assert properties["properties"].keys() == values[name].keys()
            assert properties["additionalProperties"] is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_objects_are_complete(path: Path) -> None:
    for document in documents(path):
        if path.name == "values.yaml":
            (values,) = documents(CHART / "values.yaml")
            assert document.keys() <= values.keys()
            continue
        assert document["apiVersion"]
        assert document["kind"]
        if document["kind"] in {"Kustomization", "Component"}:
            for name in document["resources"]:
                assert (path.parent / name).exists()
        else:
            assert document["metadata"]["name"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_no_pod_shares_more_of_the_host_than_it_needs(path: Path) -> None:
    for document in documents(path):
        if document.get("kind") != "DaemonSet":
            continue
        pod = document["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert not {"hostNetwork", "hostIPC"} & pod.keys()
        sets_up = document["metadata"]["name"] == "cdi-gen-setup-node"
        sees_processes = document["metadata"]["name"] == "cdi-gen-metrics"
        assert pod.get("hostPID", False) == (sets_up or sees_processes)
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        host = {
            volume["name"]
            for volume in pod["volumes"]
            if volume.get("hostPath", {}).get("path") == "/"
        }
        for name in host:
            assert mounts[name].get("readOnly", False) != sets_up


@pytest.mark.parametrize(
    ("label", "gets_pods"),
    [
        ("nvidia.com/gpu.present", True),
        ("feature.node.kubernetes.io/pci-10de.present", True),
        ("feature.node.kubernetes.io/pci-0302_10de.present", True),
        ("feature.node.kubernetes.io/pci-0300_10de.present", True),
        ("feature.node.kubernetes.io/pci-0200_10de.present", False),
        ("feature.node.kubernetes.io/pci-0380_8086.present", False),
        ("kubernetes.io/os", False),
    ],
)
@pytest.mark.parametrize("part", ["device-plugin", "labels"])
def test_nodes_with_a_gpu_by_any_usual_label_get_the_pods(
    part: str, label: str, gets_pods: bool
) -> None:
    """NVIDIA/k8s-device-plugin#1213 (2025): Node Feature Discovery's default has the PCI class."""
    (manifest,) = (
        document
        for document in documents(DEPLOY / f"kustomize/base/{part}.yaml")
        if document["kind"] == "DaemonSet"
    )
    affinity = manifest["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (values,) = documents(CHART / "values.yaml")
    node_affinity = values["affinity"]["nodeAffinity"]
    assert node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] == {
        "nodeSelectorTerms": terms
    }
    node = {label: "true"}
    matches = [
        all(
            expression["operator"] == "In" and node.get(expression["key"]) in expression["values"]
            for expression in term["matchExpressions"]
        )
        for term in terms
    ]
    assert any(matches) is gets_pods
