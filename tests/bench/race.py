# SPDX-License-Identifier: Apache-2.0
"""Runs programs in turns (A B A B …), and measures the time and memory of each run.

This is a program of its own, ``python3 -I -S race.py``: it also runs inside a lab with another Python,
and it has to be small, because Linux includes the memory of the parent process in a program's peak.
It reads one JSON object from standard input, ``{"runs": N, "runners": {NAME: [STEP, …]}}``, and
writes one to standard output, ``{NAME: [[wall ms, CPU ms, peak KiB], …]}``.

A step is ``{"argv": […], "env": {…}, "stdin": TEXT, "stdout": PATH, "cwd": PATH, "chroot": PATH}``;
a step with ``"untimed": true`` prepares or checks the run. A runner with several steps runs them one after
the other; its times are the sum of theirs, its memory is the largest of theirs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, NoReturn

WARM_UP = 2

LONGEST_PAUSE = 0.03
"""Seconds. Without pauses of changing length, container starts under crun kept one of two wall
times, 10 ms apart at the same CPU time, for a whole race. The cause is not known."""
_GOLDEN = 0.6180339887
"""The golden ratio less 1: its multiples modulo 1 are evenly spread."""


class FailedError(Exception):
    """A program in the race failed; the message contains its standard error."""


def race(runners: dict[str, list[dict[str, Any]]], runs: int) -> dict[str, list[list[float]]]:
    """Run every runner once a round, in order, after ``WARM_UP`` rounds that do not count."""
    laps: dict[str, list[list[float]]] = {name: [] for name in runners}
    stderr = os.memfd_create("stderr")
    started = 0
    for number in range(WARM_UP + runs):
        for name, steps in runners.items():
            lap = [0.0, 0.0, 0.0]
            started += 1
            for step in steps:
                if not step.get("untimed"):
                    time.sleep(started * _GOLDEN % 1 * LONGEST_PAUSE)
                wall, cpu, peak = measured(step, stderr)
                if not step.get("untimed"):
                    lap = [lap[0] + wall, lap[1] + cpu, max(lap[2], peak)]
            if number >= WARM_UP:
                laps[name].append(lap)
    return laps


def measured(step: dict[str, Any], stderr: int) -> tuple[float, float, float]:
    """Milliseconds by the clock, milliseconds of CPU, and the peak of memory in KiB."""
    stdin = os.memfd_create("stdin")
    os.write(stdin, step.get("stdin", "").encode())
    os.lseek(stdin, 0, os.SEEK_SET)
    os.ftruncate(stderr, 0)
    os.lseek(stderr, 0, os.SEEK_SET)
    # Opened before the chroot, because the program may be missing in the chroot.
    program = os.open(step["argv"][0], os.O_PATH | os.O_CLOEXEC)
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        _become(step, program, stdin, stderr)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    os.close(program)
    os.close(stdin)
    code = os.waitstatus_to_exitcode(status)
    if code != step.get("exit", 0):
        message = os.pread(stderr, 2000, 0).decode(errors="replace").strip()
        raise FailedError(f"{' '.join(step['argv'])[:300]}: exit {code}: {message}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, float(usage.ru_maxrss)


def _become(step: dict[str, Any], program: int, stdin: int, stderr: int) -> NoReturn:
    try:
        out = os.open(step.get("stdout", os.devnull), os.O_WRONLY)
        for descriptor, number in ((stdin, 0), (out, 1), (stderr, 2)):
            os.dup2(descriptor, number)
        if "chroot" in step:
            os.chroot(step["chroot"])
        os.chdir(step.get("cwd", "/"))
        # The interpreter of a script opens the script by its path.
        target = program if "chroot" in step else step["argv"][0]
        os.execve(target, step["argv"], step["env"])
    except OSError as error:
        os.write(stderr, str(error).encode())
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
