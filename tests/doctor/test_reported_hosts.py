# SPDX-License-Identifier: Apache-2.0
"""Hosts of public bug reports: `cdi-gen doctor` names the cause that the thread found."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.doctor.examining import examine, write

CONFIGURATION = "/etc/nvidia-container-runtime/config.toml"


def swarm_node(root: Path, *resources: object, configuration: str = "") -> Path:
    """A node of Swarm with these generic resources, and a config.toml of NVIDIA's runtime."""
    members = {"default-runtime": "nvidia", "node-generic-resources": resources}
    write(root, "/etc/docker/daemon.json", json.dumps(members))
    write(root, CONFIGURATION, configuration)
    return root


@pytest.mark.parametrize(
    ("kind", "configuration"),
    [
        ("NVIDIA-GPU", 'swarm-resource = "DOCKER_RESOURCE_GPU"\n[nvidia-container-runtime]\n'),
        ("GPU", '#swarm-resource = "DOCKER_RESOURCE_GPU"\n[nvidia-container-runtime]\n'),
    ],
    ids=["NVIDIA/nvidia-container-toolkit#57", "a comment"],
)
def test_swarm_gives_each_replica_all_gpus(kind: str, configuration: str, tmp_path: Path) -> None:
    root = swarm_node(tmp_path, f"{kind}=GPU-7af7a99b", configuration=configuration)
    finding = examine(root, "swarm-resources").finding("CDG-A241")
    assert f"its GPUs in DOCKER_RESOURCE_{kind}, and swarm-resource" in finding.message

    sudo, *words = shlex.split(finding.fix.replace(CONFIGURATION, f"{root}{CONFIGURATION}"))
    assert sudo == "sudo"
    subprocess.run(words, check=True)
    assert examine(root, "swarm-resources").status == "ok"
    assert (root / CONFIGURATION[1:]).read_text().count("swarm-resource") == 1


@pytest.mark.parametrize("resources", [(), ("SSD=1",), (3, None)])
def test_a_node_that_announces_no_gpu(resources: tuple[object, ...], tmp_path: Path) -> None:
    assert examine(swarm_node(tmp_path, *resources), "swarm-resources").status == "not-applicable"


def test_a_configuration_of_docker_that_is_no_json(tmp_path: Path) -> None:
    write(tmp_path, "/etc/docker/daemon.json", "[")
    assert examine(tmp_path, "swarm-resources").status == "not-applicable"
