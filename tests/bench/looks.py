# SPDX-License-Identifier: Apache-2.0
"""A program for the lab: what looking at containers again and again costs, and what it leaves.

It reads ``{"runtime": NAME, "bundles": [PATH…], "passes": N, "come_and_go": N}``. The containers of
the bundles run; after the passes they are deleted, and as many as are to come and go are run, each
looked at while it runs and after it has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.discovery import discover
from cdi_gen.containers.following import YOUNG, Following, seconds_since_boot

INTERVAL = 15
"""Seconds between two passes of the service."""
NODES = tuple(FoundNode(f"/dev/nvidia{number}", "c", 195, number) for number in range(8))
TOGETHER = 10
"""Containers that run at the same time while they come and go."""


class Clock:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the time since the boot."""
        return seconds_since_boot() + self.ahead


def milliseconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    before = time.process_time()
    call()
    return (time.process_time() - before) * 1000


def held() -> dict[str, int]:
    """Return what this process holds: open descriptors, and its memory in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    memory = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return {"descriptors": len(os.listdir("/proc/self/fd")), "kib": memory}


def main() -> None:
    """Measure."""
    plan = json.load(sys.stdin)
    clock = Clock()
    following = Following(clock=clock)

    def look() -> int:
        return len(following.discover(NODES).containers)

    def runtime(*words: str) -> None:
        command = [plan["runtime"], *words]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def end(name: str) -> None:
        runtime("delete", "-f", name)

    fresh = [milliseconds(lambda: discover("/", NODES)) for _ in range(5)]
    first = milliseconds(look)
    young = milliseconds(look)
    clock.ahead += 2 * YOUNG
    look()
    passes = []
    for _ in range(plan["passes"]):
        clock.ahead += INTERVAL
        passes.append(milliseconds(look))
    seen = look()
    is_equal = following.discover(NODES) == discover("/", NODES)
    bundles = plan["bundles"]
    for bundle in bundles:
        end(os.path.basename(bundle))
    history = []
    for number in range(0, plan["come_and_go"], TOGETHER):
        names = {f"{number + i}": bundles[(number + i) % len(bundles)] for i in range(TOGETHER)}
        for name, bundle in names.items():
            runtime("run", "-d", "-b", bundle, name)
        running = look()
        for name in names:
            end(name)
        clock.ahead += INTERVAL
        history.append({"running": running, "after": look(), **held()})
    result = {"fresh": fresh, "first": first, "young": young, "passes": passes, "seen": seen}
    print(json.dumps({**result, "equal": is_equal, "history": history}))


if __name__ == "__main__":
    main()
