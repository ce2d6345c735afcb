# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' programs and those of a node, built from Go's module proxy; Debian has none of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.lab import go

VERSIONS = ("v1.37.2", "v1.34.4")
"""The releases of Kubernetes that tests run."""

CONTROL_PLANE = ("kube-apiserver", "kube-scheduler", "kube-controller-manager")

KUBERNETES = "k8s.io/kubernetes"
ETCD = ("go.etcd.io/etcd/server/v3", "v3.6.16")
CONTAINERD = ("github.com/containerd/containerd/v2", "v2.2.9")
CONTAINERD_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
HELM = ("helm.sh/helm/v3", "v3.18.6")
CRICTL = ("sigs.k8s.io/cri-tools", "v1.34.0")


class Containerd(NamedTuple):
    """A release of containerd.

    Attributes:
        version: its first two numbers.
        programs: what is put over the root's own programs, by name.
    """

    version: str
    programs: Mapping[str, Path]


def kubernetes(program: str, version: str) -> Path:
    """A program of a release of Kubernetes: ``kubelet``, one of ``CONTROL_PLANE``.

    The first of a release takes ten CPU minutes and each of the others one to three.

    Raises:
        LabUnavailableError: Go is missing, or does not get or build it.
    """
    _, minor, patch = version.split(".")
    variables = {
        "k8s.io/component-base/version.gitVersion": version,
        "k8s.io/component-base/version.gitMajor": "1",
        "k8s.io/component-base/version.gitMinor": minor,
    }
    staging = f"v0.{minor}.{patch}"
    return go.program(KUBERNETES, version, f"cmd/{program}", variables=variables, staging=staging)


def kubectl() -> Path:
    """The program kubectl of the newest release, good for each of ``VERSIONS``."""
    return kubernetes("kubectl", VERSIONS[0])


def etcd() -> Path:
    """The program etcd, as ``kubernetes``."""
    return go.program(*ETCD, "", name="etcd")


def crictl() -> Path:
    """The program crictl, as ``kubernetes``."""
    return go.program(*CRICTL, "cmd/crictl")


def helm() -> Path:
    """The program helm, as ``kubernetes``; it takes two CPU minutes."""
    _, minor, _ = VERSIONS[0].split(".")
    variables = {
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": "1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": minor,
    }
    return go.program(*HELM, "cmd/helm", variables=variables)


def containerd(version: str) -> Containerd:
    """A release of containerd, 2.2 or 1.7, as ``kubernetes``; the lab's root has 1.7."""
    if version == "1.7":
        return Containerd(version, {})
    assert version == "2.2", f"no containerd {version}: 2.2 and 1.7"
    programs = {name: go.program(*CONTAINERD, f"cmd/{name}") for name in CONTAINERD_PROGRAMS}
    return Containerd(version, programs)
