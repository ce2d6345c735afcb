# SPDX-License-Identifier: Apache-2.0
"""A lab with real engines and cdi-gen in it, whose GPUs are nodes without a driver.

cdi-gen reads from an inventory what the GPUs are.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tests.cli.program import CHECKOUT, GOLDEN
from tests.lab.engines import Device, Inside, Lab
from tests.lab.podman import Podman

SUITE = "trixie-systemd"
NODES = (*(Device(f"/dev/nvidia{n}", 195, n) for n in range(4)), Device("/dev/nvidiactl", 195, 255))
INVENTORY = GOLDEN / "server-550-4gpu-headless/inventory.json"
PATIENCE = 60
IMAGE = "localhost/debian"

PROGRAM = """#!/bin/sh
export PYTHONPATH=/opt/cdi-gen:/opt/cdi-gen/hooks:/opt/cdi-gen/specs PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -W ignore -m cdi_gen "$@"
"""

DOCKER = """
import http.client, json, socket, sys

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")

method, path, kind = sys.argv[1:4]
connection = Connection("localhost")
body = open(sys.argv[4], "rb") if kind != "application/json" else sys.argv[4].encode()
connection.request(method, path, body, {"Content-Type": kind})
response = connection.getresponse()
print(response.read().decode())
sys.exit(response.status >= 400)
"""
"""A request to dockerd: the lab's root has no client of Docker."""


def node(number: int) -> dict[str, Any]:
    return {"path": f"/dev/nvidia{number}", "type": "c", "major": 195, "minor": number}


SPEC = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {"name": str(number), "containerEdits": {"deviceNodes": [node(number)]}}
        for number in range(4)
    ],
    "containerEdits": {"deviceNodes": [{**node(255), "path": "/dev/nvidiactl"}]},
}


class Machine:
    """A lab with engines, and cdi-gen in it."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside

    def who(self, user: int = 0) -> dict[str, Any]:
        """What `cdi-gen who` prints; ``exit`` is its exit code."""
        command = ["cdi-gen", "who", "-o", "json", "--inventory", "/opt/inventory.json"]
        ended = self.inside.run(command, user=user, check=False)
        assert "Traceback" not in ended.stderr
        document: dict[str, Any] = json.loads(ended.stdout)
        return {**document, "exit": ended.returncode, "stderr": ended.stderr}

    def why(self, *words: str, code: int = 1) -> dict[str, Any]:
        """What `cdi-gen why` prints about a container; ``code`` is the exit code that it must have."""
        command = ["cdi-gen", "why", *words, "-o", "json", "--inventory", "/opt/inventory.json"]
        ended = self.inside.run(command, check=False)
        assert "Traceback" not in ended.stderr
        assert ended.returncode == code, (ended.stdout, ended.stderr)
        document: dict[str, Any] = json.loads(ended.stdout)
        return document

    def podman(self, runtime: str, user: int, name: str, *options: str) -> str:
        """Start a container; return its id."""
        podman = Podman(self.inside, runtime=runtime, user=user)
        if IMAGE not in podman("images", "--format", "{{.Repository}}").stdout:
            podman.load("/images.tar")
        command = ("run", "-d", "--name", name, *options, IMAGE, "sleep", "1000")
        return podman(*command).stdout.strip()

    def docker(self, method: str, path: str, content: str, kind: str = "application/json") -> str:
        """Send a request to dockerd; return the answer."""
        command = ["python3", "-c", DOCKER, method, path, kind, content]
        return self.inside.run(command).stdout


@contextlib.contextmanager
def enter(
    lab: Lab,
    images: Path,
    cgroup: Literal["v1", "v2"],
    *,
    inventory: Path = INVENTORY,
    under: Sequence[Path] = (),
) -> Iterator[Machine]:
    """Enter the lab of ``SUITE`` with the spec of its four GPUs.

    Args:
        lab: the lab.
        images: the archive of images.
        cgroup: the version of control groups.
        inventory: of the GPUs.
        under: the root of a fake host with a driver, laid under the lab's.
    """
    views = {
        "/images.tar": images,
        "/opt/cdi-gen": CHECKOUT,
        "/opt/inventory.json": inventory,
    }
    with lab.enter(binds=views, devices=NODES, cgroup=cgroup, under=under) as inside:
        inside.write("/etc/cdi/nvidia.json", json.dumps(SPEC))
        inside.write("/usr/bin/cdi-gen", PROGRAM, mode=0o755)
        yield Machine(inside)
