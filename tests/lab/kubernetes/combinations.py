# SPDX-License-Identifier: Apache-2.0
"""The versions of the programs of a node: on which combination a test ran."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.standalone import Standalone

ENGINES = {"containerd": "containerd", "crio": "CRI-O"}
"""Names of the engines, by that of their program."""


class Combination(NamedTuple):
    """Programs that ran together on a node.

    Attributes:
        kubernetes: version of kubelet and control plane; empty if neither runs.
        engine: name of the container engine.
        engine_version: of the engine.
        runc: version.
    """

    kubernetes: str
    engine: str
    engine_version: str
    runc: str


def combination(entered: Node | Standalone | Cluster) -> Combination:
    """Return the versions that the programs of a node print."""
    node = entered if isinstance(entered, Node) else entered.node
    kubernetes = _version(node, "kubelet") if "kubelet" in node.processes else ""
    program = node.engine.name
    return Combination(
        kubernetes, ENGINES[program], _version(node, program), _version(node, "runc")
    )


def _version(node: Node, program: str) -> str:
    """Return the first number of ``PROGRAM --version`` that looks like a version."""
    text = node.run(program, "--version").stdout
    match = re.search(r"\d+\.\d+\.\d+", text)
    assert match, f"{program} --version printed no version: {text}"
    return match[0]
