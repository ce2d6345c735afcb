# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.metrics.churn``: 1,000 containers of crun come and go beside `cdi-gen metrics`.

Each that lives longer than an interval and a pass must be in a scrape, and none may stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakehost import hosts
from tests.fakehost.nvml_values import set_typical
from tests.metrics import gpu_lab
from tests.metrics.gpu_lab import GpuLab

INTERVAL = 1.0
PASS_SECONDS = 1.0
"""What a pass may take on a busy machine."""


class Churn(NamedTuple):
    """What the scrapes showed of containers that came and went."""

    containers: int
    lived_long: int
    """How many lived longer than an interval and a pass."""
    unseen: tuple[str, ...]
    """Those of them that no scrape had."""
    seen: int
    """How many were in a scrape, with any life."""
    left: tuple[str, ...]
    """Those that scrapes had at the end still."""
    gone_after: float
    """Seconds from the last end to a scrape without any of them."""
    scrapes: int
    slowest: float
    """The slowest scrape, in seconds."""
    before: dict[str, Any]
    """The service before and after, see ``service_probe.py``."""
    after: dict[str, Any]


def churn(lab: GpuLab, count: int) -> Churn:
    """Let containers come and go beside the service."""
    nodes = lab.nodes()
    for device in nodes:
        set_typical(lab.values, device)
    bundles = lab.write_bundles({f"gpu-{device}": nodes[device] for device in nodes})
    running = lab.start_service(interval=f"{INTERVAL:g}s")
    pid = str(running.pid)
    lab.probe("wait", pid)
    before = lab.probe("state", pid)
    command = ["/usr/bin/python3", "-I", "/srv/churn_probe.py", str(count), *bundles]
    answer = json.loads(lab.inside.run(command, timeout=1800).stdout)
    lives: dict[str, list[float]] = answer["lives"]
    long = {name for name, (start, end) in lives.items() if end - start > INTERVAL + PASS_SECONDS}
    return Churn(
        containers=len(lives),
        lived_long=len(long),
        unseen=tuple(sorted(long - answer["shown"].keys())),
        seen=len(lives.keys() & answer["shown"].keys()),
        left=tuple(answer["left"]),
        gone_after=answer["gone_after"],
        scrapes=answer["scrapes"],
        slowest=answer["slowest"],
        before=before,
        after=lab.probe("state", pid),
    )


def main() -> int:
    """Print what the scrapes showed; return 1 if a container was not seen, or stayed."""
    parser = argparse.ArgumentParser(prog="python -m tests.metrics.churn", description=__doc__)
    parser.add_argument("--containers", type=int, default=1000, help="how many (default: 1000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cdi-gen-churn-") as folder:
        fake = hosts.build("550-8gpu", Path(folder, "host"))
        with gpu_lab.enter(fake, Path(folder)) as lab:
            result = churn(lab, options.containers)
    for name, value in result._asdict().items():
        print(f"{name:12} {value}")
    return 1 if result.unseen or result.left else 0


if __name__ == "__main__":
    sys.exit(main())
