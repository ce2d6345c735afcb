# SPDX-License-Identifier: Apache-2.0
"""Which versions of CDI an engine takes: a spec of each is put where it looks, and asked for."""

from __future__ import annotations

import json

from tests.engine.matrix import deliveries as by
from tests.engine.matrix.container import VARIABLE
from tests.engine.matrix.deliveries import Delivery
from tests.engine.matrix.place import Place

VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")

ENGINES = ("podman", "docker", "containerd, ctr", "containerd, CRI")


def accepted(place: Place, engine: str) -> tuple[str, ...]:
    """The versions whose device reaches a container of the engine."""
    return tuple(version for version in VERSIONS if _accepts(place, engine, version))


def _accepts(place: Place, engine: str, version: str) -> bool:
    kind = f"example.com/v{version.replace('.', '-')}"
    spec = {
        "cdiVersion": version,
        "kind": kind,
        "devices": [{"name": "d", "containerEdits": {"env": [f"{VARIABLE}={version}"]}}],
    }
    path = place.write("/etc/cdi/version.json", json.dumps(spec))
    ended = _delivery(engine, f"{kind}=d")(place, "runc", 0)
    place.must("rm", path)
    return f"env\t{VARIABLE}\tset\t{version}\n" in ended.stdout


def _delivery(engine: str, device: str) -> Delivery:
    if engine == "podman":
        return by.podman("--device", device)
    if engine == "docker":
        return by.docker("--device", device)
    if engine == "containerd, ctr":
        return by.ctr("--device", device)
    return by.cri(CDI_devices=[{"name": device}])
