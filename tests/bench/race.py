# SPDX-License-Identifier: Apache-2.0
"""Programs against each other: run by turns (A B A B …), each run timed, weighed and checked.

A program by itself, ``python3 -I -S race.py``, so that it can run inside a lab of another Python,
and because it has to be small: Linux counts the memory of the process that starts a program to
that program's peak. Standard input is one JSON object, ``{"runs": N, "runners": {NAME: [STEP,
…]}}``; standard output one, ``{NAME: [[wall ms, CPU ms, peak KiB], …]}``.

A step is ``{"argv": […], "env": {…}, "stdin": TEXT, "stdout": PATH, "cwd": PATH, "chroot": PATH}``;
one with ``"untimed": true`` prepares the run. A runner with several steps runs them one after the other, and
its numbers are their sum (of memory, the most).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, NoReturn

WARM_UP = 2

LONGEST_PAUSE = 0.03
"""Seconds. Without pauses of changing length a contestant was seen to keep in step all race long
with whatever gives a container's wall time two modes, 10 ms apart at the same CPU time."""
_GOLDEN = 0.6180339887
"""Its multiples modulo 1 are spread evenly, however many there are."""


class FailedError(Exception):
    """A program in the race failed; the message has what it said."""


def race(runners: dict[str, list[dict[str, Any]]], runs: int) -> dict[str, list[list[float]]]:
    """Run each once a round, in order, after rounds that do not count."""
    laps: dict[str, list[list[float]]] = {name: [] for name in runners}
    said = os.memfd_create("stderr")
    started = 0
    for number in range(WARM_UP + runs):
        for name, steps in runners.items():
            lap = [0.0, 0.0, 0.0]
            started += 1
            for step in steps:
                if not step.get("untimed"):
                    time.sleep(started * _GOLDEN % 1 * LONGEST_PAUSE)
                wall, cpu, peak = measured(step, said)
                if not step.get("untimed"):
                    lap = [lap[0] + wall, lap[1] + cpu, max(lap[2], peak)]
            if number >= WARM_UP:
                laps[name].append(lap)
    return laps


def measured(step: dict[str, Any], said: int) -> tuple[float, float, float]:
    """Milliseconds by the clock, milliseconds of CPU, and the peak of memory in KiB."""
    given = os.memfd_create("stdin")
    os.write(given, step.get("stdin", "").encode())
    os.lseek(given, 0, os.SEEK_SET)
    os.ftruncate(said, 0)
    os.lseek(said, 0, os.SEEK_SET)
    # Opened here, since it need not be in a chroot.
    program = os.open(step["argv"][0], os.O_PATH | os.O_CLOEXEC)
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        _become(step, program, given, said)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begun
    os.close(program)
    os.close(given)
    code = os.waitstatus_to_exitcode(status)
    if code != step.get("exit", 0):
        words = os.pread(said, 2000, 0).decode(errors="replace").strip()
        raise FailedError(f"{' '.join(step['argv'])[:300]}: exit {code}: {words}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, float(usage.ru_maxrss)


def _become(step: dict[str, Any], program: int, given: int, said: int) -> NoReturn:
    try:
        out = os.open(step.get("stdout", os.devnull), os.O_WRONLY)
        for descriptor, at in ((given, 0), (out, 1), (said, 2)):
            os.dup2(descriptor, at)
        if "chroot" in step:
            os.chroot(step["chroot"])
        os.chdir(step.get("cwd", "/"))
        # A script has to be found again by its interpreter: by its path.
        target = program if "chroot" in step else step["argv"][0]
        os.execve(target, step["argv"], step["env"])
    except OSError as error:
        os.write(said, str(error).encode())
    os._exit(127)


def main() -> None:
    """Race what standard input describes."""
    plan = json.load(sys.stdin)
    try:
        laps = race(plan["runners"], plan["runs"])
    except (FailedError, OSError) as error:
        sys.exit(str(error))
    json.dump(laps, sys.stdout)


if __name__ == "__main__":
    main()
