# SPDX-License-Identifier: Apache-2.0
"""The objects of ``deploy/``, rendered by helm and by kustomize, and adapted to a node of the lab."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.host.looking import REPOSITORY
from tests.lab.kubernetes import packages
from tests.lab.kubernetes.manifests import Manifest
from tests.lab.kubernetes.node import BUSYBOX

CHART = REPOSITORY / "deploy/helm/cdi-gen"
KUSTOMIZE = REPOSITORY / "deploy/kustomize"
NAMESPACE = "cdi-gen"

_SHARED = ("/usr", "/lib", "/lib64", "/opt")
"""Directories of the node that have Python, cdi-gen and its packages."""


class Charts(NamedTuple):
    """Programs that render."""

    helm: Path
    kubectl: Path

    def lint(self, *options: str) -> str:
        """Return what ``helm lint --strict`` says; CalledProcessError if the chart has a fault."""
        return _run(self.helm, "lint", "--strict", str(CHART), *options)

    def text(self, *options: str) -> str:
        """Return the objects of the chart as YAML."""
        words = ("template", "cdi-gen", str(CHART), f"--namespace={NAMESPACE}")
        return _run(self.helm, *words, *options)

    def rendered(self, *options: str) -> list[Manifest]:
        """Return the objects of the chart."""
        return objects(self.text(*options))

    def kustomized(self, name: str) -> list[Manifest]:
        """Return the objects of a directory of ``deploy/kustomize``."""
        return objects(_run(self.kubectl, "kustomize", str(KUSTOMIZE / name)))


def objects(text: str) -> list[Manifest]:
    """Return the objects of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


def key(manifest: Manifest) -> tuple[str, str, str]:
    """Return kind, namespace and name of an object."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def in_lab(manifest: Manifest) -> Manifest:
    """Return a DaemonSet whose pods run this checkout on the node's Python; other objects as they are.

    The image is the only difference: users, capabilities and mounts are the chart's.
    """
    if manifest["kind"] != "DaemonSet":
        return manifest
    adapted = copy.deepcopy(manifest)
    pod: dict[str, Any] = adapted["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["image"] = BUSYBOX
    container["command"] = [*packages.CDI_GEN, *container["command"][1:]]
    environment = {"PATH": "/usr/bin", **packages.ENVIRONMENT}
    container["env"] = [
        *container.get("env", ()),
        *({"name": name, "value": value} for name, value in environment.items()),
    ]
    for number, path in enumerate(_SHARED):
        name = f"lab-{number}"
        container["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})
        pod["volumes"].append({"name": name, "hostPath": {"path": path}})
    return adapted


def _run(program: Path, *words: str) -> str:
    done = subprocess.run([program, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
