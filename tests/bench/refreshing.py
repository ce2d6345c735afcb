# SPDX-License-Identifier: Apache-2.0
"""Row ``refresh``: ``check`` and ``refresh`` on a host on which nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from tests.bench.contest import ENVIRONMENT, Bar, Laps, Line, Step, interval, race, wall_bar
from tests.bench.installed import environment
from tests.fakehost import hosts

CHECK_MILLISECONDS = 60
REFRESH = 1.2
"""How much longer a refresh with nothing to do may take than a check."""

HOST = "550-8gpu"


def refresh(runs: int) -> Iterator[Line]:
    """Both commands after a refresh, and the check of a host whose loader cache was written again."""
    program = str(environment() / "cdi-gen")
    root = str(hosts.cached(HOST).root)

    def step(command: str, *words: str) -> list[Step]:
        argv = [program, "-q", command, "--host-root", root, *words]
        return [{"argv": argv, "env": ENVIRONMENT}]

    mounts = "mount -t tmpfs -o mode=755 none /run"
    first = f"{program} -q refresh --host-root {root}"
    # Specs that are not those of the record are compared with the host in full.
    copied = "mkdir /run/other; cp /run/cdi/*.json /run/other"
    within = ["unshare", "--mount", "sh", "-ec", f'{mounts}; {first}; {copied}; exec "$@"', "sh"]
    runners = {
        "check": step("check"),
        "refresh": step("refresh"),
        "compared": step("check", "--spec-dir", "/run/other"),
    }
    laps = race(runners, runs, within=within)
    bar = _milliseconds(laps["check"], CHECK_MILLISECONDS)
    yield Line("refresh", "check, nothing changed, 8 GPUs", laps["check"], bars=(bar,))
    ratio = wall_bar("wall, refresh by check", laps["refresh"], laps["check"], REFRESH)
    yield Line("refresh", "refresh, nothing changed, 8 GPUs", laps["refresh"], bars=(ratio,))
    yield Line("refresh", "check, every spec compared, 8 GPUs", laps["compared"])


def _milliseconds(laps: Laps, limit: float) -> Bar:
    """A bar for the median of a wall time."""

    def of(rounds: Sequence[int]) -> float:
        return median(laps[i].wall for i in rounds)

    return Bar("wall ms", of(range(len(laps))), limit, *interval(len(laps), of))
