# SPDX-License-Identifier: Apache-2.0
"""The matrix: which engine is asked for a GPU in which way, and what it is known not to do."""

from __future__ import annotations

import itertools
import re
from typing import Any, NamedTuple

from tests.engine.matrix import deliveries as by
from tests.engine.matrix.deliveries import GPU, REQUEST, SHIM, Delivery
from tests.engine.matrix.homes import HOMES, Home
from tests.lab import debian

SUITES = ("bookworm", "trixie", "sid")
MOBY = "moby"
"""sid, with a dockerd built from its sources: Debian has none that is new enough."""
GROUPS = ("v1", "v2")
BOTH = (0, debian.USER)


class Row(NamedTuple):
    """An engine and a delivery, and all that they are run with."""

    engine: str
    says: str
    """What the user writes."""
    run: Delivery
    runtimes: tuple[str, ...] = ("runc",)
    users: tuple[int, ...] = (0,)
    suites: tuple[str, ...] = SUITES
    quick: bool = False
    """Whether the small roots have what it takes."""
    every: bool = False
    """Whether every GPU is asked for, and not GPU 0 alone."""
    needs: str = ""
    """A program that Debian has not: without it the row is skipped."""


_TWO = ("crun", "runc")
_DOCKER = (*SUITES, MOBY)
_ALLOW = "--allow device=…"
_CDI = f"--device {GPU}"
_DEVICE = {"driver": "cdi", "device_ids": [GPU], "capabilities": ["gpu"]}
_OF_NVIDIA = {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
_FIELD: dict[str, Any] = {"CDI_devices": [{"name": GPU}]}
_ENV = [dict(zip(("key", "value"), REQUEST.split("="), strict=True))]
_BINARY = ("--runc-binary", SHIM, "--env", REQUEST)

_BUILD = ("build", "--no-cache", "--network", "none", "--device", GPU)
_RUNSC = ("runsc", "--network=none", "--ignore-cgroups")

ROWS = (
    Row("podman", _CDI, by.podman("--device", GPU), _TWO, BOTH, quick=True),
    Row("podman", "--gpus 0", by.podman("--gpus", "0"), _TWO, BOTH),
    Row(
        "podman",
        f"--runtime {SHIM} -e {REQUEST}",
        by.podman("--env", REQUEST, shim=True),
        ("runc",),
        BOTH,
        quick=True,
    ),
    Row("podman", f"prestart hook in hooks.d, -e {REQUEST}", by.podman_hooks_d, _TWO),
    Row(
        "podman",
        f"in a container that has GPU 0, {_CDI}",
        by.podman_nested,
        ("crun",),
        quick=True,
    ),
    Row("podman", f"build {_CDI}", by.built("podman", *_BUILD), _TWO, BOTH),
    Row("buildah", f"build {_CDI}", by.built("buildah", *_BUILD), _TWO, BOTH),
    Row("docker", _CDI, by.docker("--device", GPU), users=BOTH, suites=_DOCKER),
    Row(
        "docker",
        f"--gpus driver=cdi,device={GPU}",
        by.docker("--gpus", f"driver=cdi,device={GPU}"),
        suites=_DOCKER,
    ),
    Row("docker", "--gpus device=0", by.docker("--gpus", "device=0"), users=BOTH, suites=_DOCKER),
    Row("docker", "--gpus all", by.docker("--gpus", "all"), suites=_DOCKER, every=True),
    Row(
        "docker",
        f"--runtime nvidia -e {REQUEST}",
        by.docker("--runtime", "nvidia", "--env", REQUEST),
        suites=_DOCKER,
    ),
    Row("docker", "compose, driver: cdi", by.docker_compose(**_DEVICE), suites=_DOCKER),
    Row("docker", "compose, driver: nvidia", by.docker_compose(**_OF_NVIDIA), suites=_DOCKER),
    Row("docker", f"build {_ALLOW}, RUN {_CDI}", by.docker_build(), suites=_DOCKER),
    Row(
        "docker",
        f"build {_ALLOW} --network none, RUN {_CDI}",
        by.docker_build("--network", "none"),
        suites=_DOCKER,
    ),
    Row(
        "docker",
        f"build {_ALLOW}, RUN {_CDI}, spec of generate --hooks=none",
        by.docker_build(spec=("--hooks=none",)),
        suites=_DOCKER,
    ),
    Row("containerd", f"ctr run {_CDI}", by.ctr("--device", GPU), _TWO),
    Row("containerd", f"ctr run --runc-binary {SHIM} --env {REQUEST}", by.ctr(*_BINARY)),
    Row("containerd", "CRI, field CDI_devices", by.cri(**_FIELD), needs="crictl"),
    Row("containerd", "CRI, annotation cdi.k8s.io/…", by.cri(annotated=True), needs="crictl"),
    Row(
        "containerd",
        f"CRI, runtime class nvidia, {REQUEST}",
        by.cri(handler="nvidia", envs=_ENV),
        needs="crictl",
    ),
    Row("crun", "cdi-gen inject, crun run", by.alone("crun", injected=True), ("crun",)),
    Row("runc", "cdi-gen inject, runc run", by.alone("runc", injected=True)),
    Row("runc", f"cdi-gen-runtime run, {REQUEST}", by.alone(SHIM, injected=False), quick=True),
    Row("runsc", "cdi-gen inject, runsc run", by.alone(*_RUNSC, injected=True), ("runsc",)),
    Row(
        "runsc",
        "cdi-gen inject of generate --hooks=none, runsc run",
        by.alone(*_RUNSC, injected=True, spec=("--hooks=none",)),
        ("runsc",),
    ),
    Row("apptainer", f"exec {_CDI}", by.apptainer, ("-",), BOTH, ("sid",)),
)


class Cell(NamedTuple):
    """One run of a row."""

    row: Row
    suite: str
    runtime: str
    user: int
    groups: str
    home: Home

    @property
    def host(self) -> str:
        """Whose host it is."""
        return self.home.name

    def __str__(self) -> str:
        user = "rootless" if self.user else "rootful"
        words = re.sub(r"[^\w=./:-]+", "-", self.row.says)
        where = f"{self.suite}-{self.runtime}-{user}-{self.groups}-{self.host}"
        return f"{self.row.engine}-{where}-{words}"


def cells(*, quick: bool) -> list[Cell]:
    """All, or those that the small roots have what it takes for."""
    found: list[Cell] = []
    for row in ROWS:
        if not quick or row.quick:
            suites = [each for each in row.suites if not quick or each in debian.ENGINES]
            groups = GROUPS[:1] if quick else GROUPS
            product = itertools.product(suites, row.runtimes, row.users, groups, HOMES)
            found += [Cell(row, *each) for each in product]
    # Each host once: one with the older engines, the others with the newer.
    return [
        each for each in found if not quick or (each.suite == "bookworm") == (each.home is HOMES[0])
    ]
