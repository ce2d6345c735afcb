# SPDX-License-Identifier: Apache-2.0
"""The Helm chart and the kustomize directories, rendered by the real programs.

``--update-golden`` writes the files of ``deploy/kustomize`` that are the chart's: ``make manifests``.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from tests.lab.kubernetes.charts import KUSTOMIZE, Charts, key, objects
from tests.lab.kubernetes.manifests import Manifest

GENERATED = {
    "base": ("namespace", "device-plugin", "labels"),
    "components/node-setup": ("setup-node", "runtime-classes"),
    "components/nri": ("nri",),
    "components/metrics": ("metrics",),
}
"""The files of each directory that the chart's templates of the same name give."""

CREATED = "--set=namespace.create=true"
OVERLAYS = ("node-setup", "nri", "node-setup-nri", "metrics")
OPTIONS = {"base": (CREATED,)} | {
    f"overlays/{name}": (f"--values={KUSTOMIZE / 'overlays' / name / 'values.yaml'}",)
    for name in OVERLAYS
}

ACCESS = ("privileged", "runtimeClass", "annotation", "none")
CHOICES = {
    "deviceAccess": ACCESS,
    "labels.output": ("node", "nodeFeature"),
    "nodeSetup.enabled": ("false", "true"),
    "nri.enabled": ("false", "true"),
    "config.files.default": ("", "version: v1"),
}
EVERY_CHOICE = [
    tuple(f"{name}={value}" for name, value in zip(CHOICES, values, strict=True) if value)
    for values in itertools.product(*CHOICES.values())
    if not (values[0] == "annotation" and values[3] == "false")
]
EVERY_CHOICE += [
    ("metrics.enabled=true", f"deviceAccess={access}", "nri.enabled=true", f"metrics.{value}")
    for access in ACCESS
    for value in ("port=9401", "webConfigSecret=web")
]


def parts(text: str) -> dict[str, str]:
    """Return the objects of each template, by its name."""
    texts: dict[str, list[str]] = {}
    for document in re.split(r"^---\n", text, flags=re.MULTILINE):
        source = re.match(r"# Source: cdi-gen/templates/([a-z-]+)\.yaml\n", document)
        if source:
            content = document[source.end() :].replace(
                "# SPDX-License-Identifier: Apache-2.0\n", ""
            )
            texts.setdefault(source[1], []).append(re.sub(r" +$", "", content, flags=re.MULTILINE))
    head = (
        "# SPDX-License-Identifier: Apache-2.0\n# Written by `make manifests` from deploy/helm.\n"
    )
    return {name: head + "---\n".join(documents) for name, documents in texts.items()}


@pytest.mark.parametrize("name", GENERATED)
def test_the_files_of_kustomize_are_those_of_the_chart(
    charts: Charts, name: str, pytestconfig: pytest.Config
) -> None:
    texts = parts(charts.text(*OPTIONS[name.replace("components", "overlays")]))
    for part in GENERATED[name]:
        file = KUSTOMIZE / name / f"{part}.yaml"
        if pytestconfig.getoption("--update-golden"):
            file.write_text(texts[part])
        assert file.read_text() == texts[part], "run `make manifests`"


@pytest.mark.parametrize("name", OPTIONS)
def test_kustomize_and_helm_give_the_same_objects(charts: Charts, name: str) -> None:
    by_helm = {key(manifest): manifest for manifest in charts.rendered(*OPTIONS[name])}
    by_kustomize = {key(manifest): manifest for manifest in charts.kustomized(name)}
    assert by_kustomize == by_helm


def test_the_chart_has_no_fault(charts: Charts) -> None:
    assert "0 chart(s) failed" in charts.lint()


@pytest.mark.parametrize("part", ["setup-node", "nri", "metrics"])
def test_what_an_overlay_adds_to_the_base_has_the_label_by_which_it_is_removed(
    charts: Charts, part: str
) -> None:
    """`kubectl apply` of another overlay removes nothing; docs/cluster.md has the command."""
    overlay = {"setup-node": "node-setup"}.get(part, part)
    base = {key(manifest) for manifest in charts.kustomized("base")}
    added = [
        manifest
        for manifest in charts.kustomized(f"overlays/{overlay}")
        if key(manifest) not in base
    ]
    kinds = {manifest["kind"] for manifest in added}
    assert kinds - {"RuntimeClass"} == {"DaemonSet", "ServiceAccount"}
    for manifest in added:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/component"] == part


@pytest.mark.parametrize("access", ACCESS)
def test_only_what_must_be_privileged_is(charts: Charts, access: str) -> None:
    enabled = ("nodeSetup.enabled=true", "nri.enabled=true", "metrics.enabled=true")
    sets = (*enabled, f"deviceAccess={access}")
    pods = pods_of(charts.rendered(*(f"--set={value}" for value in sets)))
    asks_nvml = {"device-plugin", "labels", "metrics"}
    privileged = {"setup-node"} | (asks_nvml if access == "privileged" else set())
    for name, pod in pods.items():
        (container,) = pod["containers"]
        context = container["securityContext"]
        assert context.get("privileged", False) == (name in privileged)
        assert pod.get("hostPID", False) == (name in {"setup-node", "metrics"})
        assert not {"hostNetwork", "hostIPC"} & pod.keys()
        if name not in privileged:
            added = {"add": ["SYS_PTRACE"]} if name == "metrics" else {}
            assert context["capabilities"] == {"drop": ["ALL"]} | added
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            # A kubelet without AppArmor rejects a pod with another profile.
            profile = context.get("appArmorProfile", {"type": "Unconfined"})
            assert profile == {"type": "Unconfined"}
            assert ("appArmorProfile" in context) == (name == "metrics")
        if name == "labels":
            assert context["runAsUser"] == 65532
        assert container["resources"]["limits"]["memory"]
        assert pod["priorityClassName"] == "system-node-critical"


def pods_of(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Return the pods of the DaemonSets, by the part."""
    return {
        manifest["metadata"]["name"].removeprefix("cdi-gen-"): manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] == "DaemonSet"
    }


def rules(manifests: list[Manifest], kind: str) -> dict[str, set[tuple[str, str]]]:
    """Return (resource, verb) of the roles of a kind, by name."""
    return {
        manifest["metadata"]["name"].removeprefix("cdi-gen-"): {
            (resource, verb)
            for rule in manifest["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        for manifest in manifests
        if manifest["kind"] == kind
    }


def test_the_roles_permit_no_more_than_the_values_need(charts: Charts) -> None:
    plain = charts.rendered("--set=nodeSetup.enabled=true,nri.enabled=true")
    assert rules(plain, "ClusterRole") == {"labels": {("nodes", "patch")}}
    assert rules(plain, "Role") == {"device-plugin": {("events", "create")}}
    sets = (
        "config.files.default=version: v1,labels.output=nodeFeature,devicePlugin.nodeEvents=false"
    )
    chosen = charts.rendered(f"--set={sets}")
    reading = {("nodes", verb) for verb in ("get", "list", "watch")}
    assert rules(chosen, "ClusterRole") == {"labels": reading, "device-plugin": reading}
    features = {("nodefeatures", verb) for verb in ("get", "create", "update")}
    assert rules(chosen, "Role") == {"labels": features | {("pods", "get")}}
    for manifest in chosen + plain:
        if manifest["kind"] == "ServiceAccount":
            assert manifest["automountServiceAccountToken"] is False


def test_mps_daemons_in_pods_of_their_own_are_not_started_by_the_plugin(charts: Charts) -> None:
    manifests = charts.rendered("--set=mps.enabled=true,config.files.shared=version: v1")
    pods = pods_of(manifests)
    (daemons,) = pods["mps"]["containers"]
    (plugin,) = pods["device-plugin"]["containers"]
    assert "--no-start-mps-daemons" in plugin["args"]
    assert "--mps-root=/run/nvidia/mps" in plugin["args"]
    assert "--mps-root=/run/nvidia/mps" in daemons["args"]
    assert rules(manifests, "ClusterRole")["mps"] == {
        ("nodes", verb) for verb in ("get", "list", "watch")
    }
    (daemon_set,) = [
        one
        for one in manifests
        if one["metadata"]["name"] == "cdi-gen-mps" and one["kind"] == "DaemonSet"
    ]
    assert daemon_set["spec"]["updateStrategy"] == {"type": "OnDelete"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("deviceAccess=all", "deviceAccess"),
        ("labels.output=file", "labels.output"),
        ("metrics.enabled=true,metrics.monitor=yes", "metrics.monitor"),
        ("metrics.names=dcgm", "at '/metrics/names'"),
        ("mps.enabled=true", "needs a config file"),
        ("mps.enabled=true,deviceAccess=none", "needs deviceAccess"),
        ("deviceAccess=annotation", "deviceAccess: annotation needs nri.enabled"),
        ("migStrategy=mixed", "'migStrategy' not allowed"),
        ("nodeSetup.enable=true", "at '/nodeSetup'"),
        ("config.map.default=version: v1", "'map' not allowed"),
    ],
)
def test_an_unknown_value_is_refused(charts: Charts, value: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        charts.rendered(f"--set={value}")


def test_an_older_kubernetes_gets_no_fields_that_it_does_not_know(charts: Charts) -> None:
    values = "deviceAccess=none,appArmor=RuntimeDefault"
    assert "appArmorProfile" in charts.text(f"--set={values}")
    text = charts.text(f"--set={values}", "--kube-version=v1.29.0")
    assert "appArmorProfile" not in text
    assert "ValidatingAdmissionPolicy" not in text


def test_objects_have_unique_names(charts: Charts) -> None:
    for choice in EVERY_CHOICE:
        keys = [key(manifest) for manifest in objects(charts.text(f"--set={','.join(choice)}"))]
        assert len(keys) == len(set(keys))
