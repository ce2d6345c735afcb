# SPDX-License-Identifier: Apache-2.0
"""A program for the lab: does steps, and compares `Following` with a fresh look after each.

It reads ``{"steps": [[TITLE, ARGV]…], "age": SECONDS}`` and prints ``[TITLE, EQUAL, CONTAINERS,
DESCRIPTORS]`` of each step, the last the number of its open files. With an age every container is taken for settled, so that only changes are looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.discovery import Discovery, discover
from cdi_gen.containers.following import Following, seconds_since_boot
from cdi_gen.containers.model import Container

PATIENCE = 20
"""Seconds: a process may end or start between two looks."""
NODES = (
    *(FoundNode(f"/dev/nvidia{number}", "c", 195, number) for number in range(4)),
    FoundNode("/dev/nvidiactl", "c", 195, 255),
)


def lasting(container: Container) -> Container:
    """Return a container without the names and parents of its processes."""
    bare = tuple(replace(process, name="", parent=0, groups=()) for process in container.processes)
    return replace(container, first=bare[0], processes=bare)


def compared(discovery: Discovery, *, is_settled: bool) -> object:
    """Return what must be equal; names of processes are looked at again after a while."""
    if not is_settled:
        return discovery
    return [*map(lasting, discovery.containers)], [process.pid for process in discovery.others]


def described(container: Container) -> dict[str, Any]:
    """Return what a test asserts of a container."""
    origin = container.origin
    names = {name: getattr(origin, name) for name in ("engine", "id", "name", "unit", "user")}
    nodes = {node.path: node.access for node in container.nodes}
    return {**names, "nodes": nodes, "processes": len(container.processes)}


def main() -> None:
    """Do the steps."""
    plan = json.load(sys.stdin)
    age = plan["age"]
    following = Following(clock=lambda: seconds_since_boot() + age)
    following.discover(NODES)
    for title, argv in plan["steps"]:
        ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if ended.returncode:
            sys.exit(f"{title}: {os.fsdecode(ended.stdout + ended.stderr)}")
        deadline = time.monotonic() + PATIENCE
        while True:
            again, fresh = following.discover(NODES), discover("/", NODES)
            is_equal = compared(again, is_settled=age > 0) == compared(fresh, is_settled=age > 0)
            if is_equal or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        descriptors = len(os.listdir("/proc/self/fd"))
        containers = [*map(described, again.containers)]
        print(json.dumps([title, is_equal, containers, descriptors]), flush=True)


if __name__ == "__main__":
    main()
