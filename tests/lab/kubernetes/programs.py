# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' programs and those of a node, built from Go's module proxy; Debian has none of them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.lab import go
from tests.lab.cache import LabUnavailableError, cached

VERSIONS = ("v1.37.2", "v1.34.4")
"""The releases of Kubernetes that tests run."""

CONTROL_PLANE = ("kube-apiserver", "kube-scheduler", "kube-controller-manager")

KUBERNETES = "k8s.io/kubernetes"
ETCD = ("go.etcd.io/etcd/server/v3", "v3.6.16")
CONTAINERD = ("github.com/containerd/containerd/v2", "v2.2.9")
CONTAINERD_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
HELM = ("helm.sh/helm/v3", "v3.18.6")
CRIO = ("github.com/cri-o/cri-o", "v1.34.0")
CRIO_TAGS = (
    "btrfs_noversion",
    "containers_image_openpgp",
    "containers_image_ostree_stub",
    "exclude_graphdriver_btrfs",
)
"""Without what needs libraries in C; without seccomp, too."""
KUBECONFORM = ("github.com/yannh/kubeconform", "v0.8.0")
CRICTL = ("sigs.k8s.io/cri-tools", "v1.34.0")


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


def kubeconform() -> Path:
    """The program kubeconform, as ``kubernetes``."""
    return go.program(*KUBECONFORM, "cmd/kubeconform")


def containerd() -> Mapping[str, Path]:
    """The programs of containerd 2.2 by name, as ``kubernetes``; the lab's root has 1.7."""
    return {name: go.program(*CONTAINERD, f"cmd/{name}") for name in CONTAINERD_PROGRAMS}


def crio() -> Mapping[str, Path]:
    """CRI-O and its program pinns, as ``kubernetes``; the lab's root has conmon and runc."""
    # The checksum database does not serve the checksums of two of its dependencies.
    crio_program = go.program(*CRIO, "cmd/crio", tags=CRIO_TAGS, own_sums=True)
    return {"crio": crio_program, "pinns": _pinns()}


def _pinns() -> Path:
    """The program by which CRI-O makes namespaces, which its module has in C."""

    def build(folder: Path) -> None:
        sources = sorted((go.sources(*CRIO) / "pinns/src").glob("*.c"))
        options = ("-std=c99", "-Os", "-static", "-s")
        command = ("cc", *options, "-o", str(folder / "pinns"), *map(str, sources))
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            raise LabUnavailableError(f"pinns is built with cc: {error}") from error
        except subprocess.CalledProcessError as error:
            raise LabUnavailableError(f"cc does not build pinns: {error.stderr[-300:]}") from error

    return cached("pinns", " ".join(CRIO), build) / "pinns"
