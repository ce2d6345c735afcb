# SPDX-License-Identifier: Apache-2.0
"""An engine that a user meets a fault with: its commands, and `cdi-gen why` beside it."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

from tests.engine.expected import nodes as nodes_in
from tests.engine.matrix.homes import HOMES
from tests.engine.matrix.place import PATIENCE, PYTHON_PATH, Place
from tests.lab.probe import answers, probe

HOME = HOMES[0]
SEES = shlex.join(probe(("find", "/dev")))
"""The command of a container that lists its nodes."""

_SYSTEMCTL = f"""\
#!/bin/sh -e
[ "$1 $2" = "restart docker" ]
kill "$(cat /run/docker.pid)"
while [ -e /run/docker.pid ]; do sleep 0.1; done
dockerd >>/var/log/docker.log 2>&1 </dev/null &
{PATIENCE.format("docker ps")}
"""
"""A host's service manager, as far as printed advice needs it."""


def prepare(place: Place) -> None:
    """Give a place what printed advice uses: sudo, systemctl, and cdi-gen as it is installed."""
    inside = place.machine.inside
    inside.write("/usr/local/bin/sudo", '#!/bin/sh\nexec "$@"\n', mode=0o755)
    inside.write("/usr/local/bin/systemctl", _SYSTEMCTL, mode=0o755)
    program = f'#!/bin/sh\nPYTHONPATH={PYTHON_PATH} exec python3 -W ignore -B -m cdi_gen "$@"\n'
    inside.write("/usr/bin/cdi-gen", program, mode=0o755)


def start_docker(place: Place, configuration: dict[str, Any]) -> None:
    """Start dockerd with a daemon.json, and load the images."""
    place.write("/etc/docker/daemon.json", configuration)
    place.must("mkdir", "-p", "/var/lib/docker")
    place.must("mount", "-t", "tmpfs", "tmpfs", "/var/lib/docker")
    place.must("ip", "link", "set", "lo", "up")
    place.must("sh", "-c", "dockerd >/var/log/docker.log 2>&1 </dev/null &")
    place.must("sh", "-c", PATIENCE.format("docker ps"))
    place.must("docker", "load", "--quiet", "--input", "/image.tar")


def why(place: Place, command: str) -> dict[str, Any]:
    """What `cdi-gen why` says of a command line, or of a file."""
    ended = place.run("sh", "-c", f"cdi-gen why -o json {command}")
    assert ended.stdout, ended.stderr
    (answer,) = json.loads(ended.stdout)["answers"]
    found: dict[str, Any] = answer
    return found


def finding(answer: dict[str, Any], code: str) -> dict[str, str]:
    """The fault of a code."""
    faults = (item for item in answer["findings"] if item["severity"] == "error")
    (found,) = (item for item in faults if item["code"] == code)
    result: dict[str, str] = found
    return result


def shell(place: Place, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line as a user types it."""
    return place.run("sh", "-c", command, timeout=120)


def gpu_nodes(ended: subprocess.CompletedProcess[str]) -> frozenset[str]:
    """The GPUs that a container sees, by its own list of nodes."""
    lines = "\n".join(line for line in ended.stdout.splitlines() if "\t" in line)
    found = answers(lines[lines.find("find\t") :] if "find\t" in lines else "")
    return frozenset(
        path for path in nodes_in(found) if path.startswith("/dev/nvidia") and path[11:].isdigit()
    )
