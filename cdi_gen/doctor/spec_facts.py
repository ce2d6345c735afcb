# SPDX-License-Identifier: Apache-2.0
"""The facts of the host that specs are compared with, as a JSON value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cdi_gen.doctor.host import Host
from cdi_gen.refresh import host_facts
from cdi_gen.refresh.host_facts import Gpu, HostFacts, Instance, Node


def read(host: Host, paths: Iterable[str]) -> HostFacts:
    """Return the facts.

    Args:
        host: the host.
        paths: the paths of the host that specs name.
    """
    document = host.fact(
        "spec facts", lambda: _document(host_facts.read(sorted(paths), host.where.host_root))
    )
    return _facts(document)


def _document(facts: HostFacts) -> dict[str, Any]:
    return facts._asdict() | {
        "gpus": [
            [*gpu[:-1], None if gpu.drm_nodes is None else sorted(gpu.drm_nodes)]
            for gpu in facts.gpus
        ],
        "instances": [[*instance[:-1], sorted(instance.minors)] for instance in facts.instances],
        "capability_minors": sorted(facts.capability_minors),
        "nodes": {path: [*node] for path, node in facts.nodes.items()},
        "paths": sorted(facts.paths),
    }


def _facts(document: dict[str, Any]) -> HostFacts:
    fields = document | {
        "gpus": tuple(
            Gpu(number, minor, uuid, address, None if nodes is None else frozenset(nodes))
            for number, minor, uuid, address, nodes in document["gpus"]
        ),
        "instances": tuple(
            Instance(gpu, gpu_instance, compute_instance, frozenset(minors))
            for gpu, gpu_instance, compute_instance, minors in document["instances"]
        ),
        "capability_minors": frozenset(document["capability_minors"]),
        "nodes": {path: Node(*numbers) for path, numbers in document["nodes"].items()},
        "paths": frozenset(document["paths"]),
    }
    return HostFacts(**fields)
