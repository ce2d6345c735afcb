# SPDX-License-Identifier: Apache-2.0
"""Containers that ended and were not removed, as engines keep them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.containers import ended
from cdi_gen.containers.records import Tree

ID = "9c2f6c16c3c79b8af6e35d6ff329cb144d72aa20e54c2ef0cc765dee7d81029a"
STORAGE = "var/lib/containers/storage/overlay-containers"
HOME = "home/u/.local/share/containers/storage/overlay-containers"

Root = tuple[Path, Tree]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield tmp_path, Tree(descriptor)
    os.close(descriptor)


def write(root: Root, path: str, content: Any) -> None:
    file = root[0] / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_docker_keeps_the_error(root: Root) -> None:
    content = {
        "Name": "/web",
        "Config": {"Image": "cuda"},
        "State": {"Error": "unresolvable CDI devices nvidia.com/gpu=9"},
    }
    write(root, f"var/lib/docker/containers/{ID}/config.v2.json", content)
    for name in ("web", ID, ID[:12]):
        container = ended.by_name(root[1], name)
        assert container is not None
        assert (container.origin.engine, container.origin.name) == ("docker", "web")
        assert container.error == "unresolvable CDI devices nvidia.com/gpu=9"


@pytest.mark.parametrize("storage", [STORAGE, HOME])
def test_podman_keeps_the_bundle(root: Root, storage: str) -> None:
    write(root, f"{storage}/containers.json", [{"id": ID, "names": ["web"]}])
    container = ended.by_name(root[1], "web")
    assert container is not None
    assert (container.origin.engine, container.origin.id) == ("podman", ID)
    assert container.origin.bundle == f"/{storage}/{ID}/userdata"


def test_runtime_keeps_the_state(root: Root) -> None:
    write(root, "run/crun/web/status", {"pid": 7, "bundle": "/b"})
    container = ended.by_name(root[1], "web")
    assert container is not None
    assert (container.origin.engine, container.origin.bundle) == ("crun", "/b")
    assert container.origin.state == "/run/crun/web"


def test_containerd_keeps_the_bundle_of_a_task(root: Root) -> None:
    write(root, "run/containerd/io.containerd.runtime.v2.task/k8s.io/abc/config.json", {})
    container = ended.by_name(root[1], "abc")
    assert container is not None
    assert container.origin.engine == "containerd"


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "a\0b", "x" * 300, "we"])
def test_other_names_lead_nowhere(root: Root, name: str) -> None:
    write(root, "run/crun/web/status", {"pid": 7})
    write(root, "run/status", {"pid": 7})
    assert ended.by_name(root[1], name) is None


def test_odd_records_are_left_out(root: Root) -> None:
    write(root, f"var/lib/docker/containers/{ID}/config.v2.json", ["?"])
    write(root, f"{STORAGE}/containers.json", [{"id": 7, "names": "web"}, "?", {}])
    assert ended.by_name(root[1], "web") is None
