# SPDX-License-Identifier: Apache-2.0
"""Row ``refresh``: ``check`` and ``refresh`` on a host on which nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.contest import ENVIRONMENT, Line, Step, race, wall_bar
from tests.bench.installed import environment
from tests.fakehost import hosts

CHECK = 60 / 6
"""60 ms on a machine where an interpreter that does nothing takes 6 ms."""
REFRESH = 1.2
"""How much longer a refresh with nothing to do may take than a check."""

HOST = "550-8gpu"


def refresh(runs: int) -> Iterator[Line]:
    """Both commands after a refresh, and the check of a host whose loader cache was written again."""
    bin_ = environment()
    program = str(bin_ / "cdi-gen")
    root = str(hosts.cached(HOST).root)

    def step(command: str, *words: str) -> list[Step]:
        argv = [program, "-q", command, "--host-root", root, *words]
        return [{"argv": argv, "env": ENVIRONMENT}]

    mounts = "mount -t tmpfs -o mode=755 none /run"
    first = f"{program} -q refresh --host-root {root}"
    # Specs that are not those of the record are compared with the host in full.
    copied = "mkdir /run/other; cp /run/cdi/*.json /run/other"
    within = ["unshare", "--mount", "sh", "-ec", f'{mounts}; {first}; {copied}; exec "$@"', "sh"]
    bare = {"argv": [str(bin_ / "python"), "-I", "-S", "-c", "pass"], "env": ENVIRONMENT}
    runners = {
        "bare": [bare],
        "check": step("check"),
        "refresh": step("refresh"),
        "compared": step("check", "--spec-dir", "/run/other"),
    }
    laps = race(runners, runs, within=within)
    yield Line("refresh", "an interpreter that does nothing", laps["bare"])
    check = wall_bar("wall, check by the interpreter", laps["check"], laps["bare"], CHECK)
    yield Line("refresh", "check, nothing changed, 8 GPUs", laps["check"], bars=(check,))
    ratio = wall_bar("wall, refresh by check", laps["refresh"], laps["check"], REFRESH)
    yield Line("refresh", "refresh, nothing changed, 8 GPUs", laps["refresh"], bars=(ratio,))
    compared = wall_bar("wall, check by the interpreter", laps["compared"], laps["bare"], CHECK)
    yield Line("refresh", "check, every spec compared, 8 GPUs", laps["compared"], bars=(compared,))
