# SPDX-License-Identifier: Apache-2.0
"""Versions as engines and runtimes print them, out of public reports, and what is decided by them."""

from __future__ import annotations

import json

import pytest

from cdi_gen.engines import containerd, docker
from cdi_gen.engines.machine import printed_version
from cdi_gen.engines.plan import Request
from tests.unit.engines.machine import DOCKER_FILE, Told, carried_out, warnings

PACKAGE = "github.com/containerd/containerd"

PRINTED = {
    # Distributions and their suffixes.
    f"containerd {PACKAGE} 1.7.24~ds1 1.7.24~ds1-6+b4": "1.7.24",
    "Docker version 20.10.24+dfsg1, build 297e128": "20.10.24",
    # actions/runner-images#690: moby-engine, which Azure numbered itself until 2020.
    "Docker version 3.0.11+azure, build eb310fca49568dccd87c6136f774ef6fff2a1b51": "3.0.11",
    "Docker version 20.10.25+azure-2, build b82b9f3a0e763304a250531cb9350aa6d93723c9": "20.10.25",
    # kata-containers/kata-containers#2075
    f"containerd {PACKAGE} 1.4.4-0ubuntu1~20.04.2 \n": "1.4.4",
    # bottlerocket-os/bottlerocket#1241
    f"containerd {PACKAGE} 1.3.7+unknown \n": "1.3.7",
    # docker/containerd-packaging#19, containerd/containerd#5237
    f"containerd {PACKAGE} 1.1.0+unknown": "1.1.0",
    "containerd containerd.io 1.4.4 05f951a3781f4f2c1911b05e61c160e9c30eaa8e": "1.4.4",
    # k3s calls the package its own (NVIDIA/nvidia-container-toolkit#982).
    "containerd github.com/k3s-io/containerd v2.0.5-k3s1.32 ": "2.0.5",
    # Before a release, and after one.
    # containerd/containerd#6484
    f"containerd {PACKAGE} v1.6.0-rc.1 ad771115b82a70cfd8018d72ae489c707e63de16.m": "1.6.0",
    # moby/moby#35389
    f"containerd {PACKAGE} v1.0.0-beta.2-53-g992280e8": "1.0.0",
    # kata-containers/kata-containers#12936
    f"containerd {PACKAGE}/v2 v2.3.0-rc.0 4b2f1c7a": "2.3.0",
    "Docker version 29.0.0-rc.1, build 8d4a5c3": "29.0.0",
    # podman-container-tools/podman#16839, NVIDIA/nvidia-container-toolkit#46
    "podman version 4.4.0-dev": "4.4.0",
    "buildah version 1.28.0 (image-spec 1.0.2-dev, runtime-spec 1.0.2-dev)": "1.28.0",
    # containerd/nerdctl#255
    "nerdctl version v0.8.3.m": "0.8.3",
    # containerd/nerdctl#2444: what `go install` makes.
    "nerdctl version v1.5.1-0.20230822064152-0a1d3b4c5d6e": "1.5.1",
    "nerdctl version v0.0.0-20230822064152-0a1d3b4c5d6e": None,
    "nerdctl version (devel)": None,
    # mgoltzsche/podman-static#156: two numbers.
    "crun version 1.25\ncommit: d9a0adce065c7747ab88ea6ccc42b15a626e08e1\nspec: 1.0.0": "1.25",
    # Builds that have no version.
    # docker/docs#7090, docker/docker-ce-packaging#250: Docker's nightly packages.
    "Docker version 0.0.0-20180720214833-f61e0f7, build f61e0f7": None,
    # docker-archive/docker-ce#536
    "Docker version 0.0.0-dev, build 8d4a5c3": None,
    # voidlinux/void-packages#15193, moby/moby#37974
    "Docker version dev, build HEAD": None,
    "Docker version library-import, build unknown": None,
}


@pytest.mark.parametrize(("text", "version"), PRINTED.items())
def test_version_that_a_program_prints(text: str, version: str | None) -> None:
    assert printed_version(text) == version


@pytest.mark.parametrize("version", ["0.0.0-20240915002115-e2b5ab5d3c", "dev", "library-import"])
def test_docker_of_a_nightly_build_is_assumed_to_support_cdi(version: str) -> None:
    """docker/docs#7090: 0.0.0 compares as older than the first release with CDI."""
    machine = Told({"dockerd": version})
    plan = docker.plan(Request(), machine)
    assert warnings(plan) == ()
    assert json.loads(carried_out(plan, {})[DOCKER_FILE])["features"] == {"cdi": True}
    (status,) = docker.statuses(machine)
    assert (status.version, status.cdi) == (None, "unknown")


def test_version_of_the_program_counts_where_the_daemon_reports_a_development_version() -> None:
    """voidlinux/void-packages#15193: the server is `dev`, the packages have numbers."""
    information = json.dumps({"ServerVersion": "0.0.0-20240915002115-e2b5ab5d3c"})
    outputs: dict[tuple[str, ...], str] = {
        ("docker", "info", "--format", "{{json .}}"): information
    }
    (status,) = docker.statuses(Told({"dockerd": "28.5.2", "docker": "28.5.2"}, outputs=outputs))
    assert status.version == "28.5.2"


def test_containerd_without_a_version_gets_what_every_version_reads() -> None:
    """containerd/containerd#3707: built without its Makefile, it prints no version."""
    plan = containerd.plan(Request(), Told({"containerd": "0.0.0+unknown"}))
    assert not any("does not support CDI" in message for message in warnings(plan))
    texts = carried_out(plan, {}).values()
    assert all("version = 2\n" in text for text in texts)
    assert any("enable_cdi = true" in text for text in texts)
