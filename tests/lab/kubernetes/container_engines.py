# SPDX-License-Identifier: Apache-2.0
"""The container engines that a node can have: two releases of containerd, and CRI-O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.lab.kubernetes import configuration, programs

CONTAINERD_RELEASES = ("2.2", "1.7")
CRIO = "cri-o"
RELEASES = (*CONTAINERD_RELEASES, CRIO)
WITH_KUBERNETES = (
    *((version, release) for version in programs.VERSIONS for release in CONTAINERD_RELEASES),
    (programs.VERSIONS[0], CRIO),
)
"""The pairs of a release of Kubernetes and of an engine that tests run."""

Command = tuple[str, ...]


class Engine(NamedTuple):
    """A container engine of a node.

    Attributes:
        release: of containerd, 2.2 or 1.7, or ``CRIO``.
        name: of its process, and what its command line is.
        socket: where it serves CRI.
        storage: the directory of its images, which cannot lie on an overlay.
        programs: what is put over the root's own programs, by name.
        files: its configuration, by path in the node.
        loading: the commands that load the image ``localhost/NAME:latest`` of an archive under
            another reference; called with the archive's path, this name and the reference.
    """

    release: str
    name: str
    socket: str
    storage: str
    programs: Mapping[str, Path]
    files: Mapping[str, str]
    loading: Callable[[str, str, str], tuple[Command, ...]]


def engine(release: str) -> Engine:
    """Return an engine by its release.

    Raises:
        LabUnavailableError: a program of it cannot be built here.
    """
    if release == CRIO:
        return Engine(
            release,
            "crio",
            configuration.CRIO_SOCKET,
            "/var/lib/containers",
            programs.crio(),
            configuration.crio(),
            _load_into_crio,
        )
    assert release in CONTAINERD_RELEASES, f"no containerd {release}: {CONTAINERD_RELEASES}"
    return Engine(
        release,
        "containerd",
        configuration.CONTAINERD_SOCKET,
        "/var/lib/containerd",
        programs.containerd() if release == "2.2" else {},
        {"/etc/containerd/config.toml": configuration.containerd(release)},
        _load_into_containerd,
    )


def _load_into_containerd(archive: str, loaded: str, reference: str) -> tuple[Command, ...]:
    images = ("ctr", "--namespace", "k8s.io", "images")
    return (
        (*images, "import", archive),
        (*images, "tag", "--force", loaded, reference),
        (*images, "rm", loaded),
    )


def _load_into_crio(archive: str, loaded: str, reference: str) -> tuple[Command, ...]:
    """CRI-O has no command of its own to load an archive."""
    source = f"docker-archive:{archive}:{loaded}"
    return (("skopeo", "copy", "--quiet", source, f"containers-storage:{reference}"),)
