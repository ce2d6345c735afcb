# SPDX-License-Identifier: Apache-2.0
"""The time of ``podman run --rm --device nvidia.com/gpu=all … /bin/true``, with every form of spec.

Podman reads specs at one place, so each start has the specs of its form mounted there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.bench.contest import ENVIRONMENT, Lap, Step, race, wall_bar
from tests.gpu.several import bundles
from tests.gpu.several.containers import Runtime
from tests.gpu.several.gpus import ALL, markdown_table
from tests.gpu.several.section import Host, Section, transcript_entry

NO_DEVICE, NVIDIA = "no device", "nvidia"
ROUNDS = 15
SPEC_DIRECTORIES = ("/etc/cdi", "/run/cdi")
OPTIONS = (*("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),)


def podman_starts(host: Host) -> Section:
    """Race podman with the first of the runtimes."""
    title = "Starting a container with podman"
    podman = shutil.which("podman")
    if podman is None:
        return Section(title, ("podman is not here.",))
    name, runtime = next(iter(host.runtimes.items()))
    folder = host.folder / "podman"
    for directory in ("root", "run", "tmp", "none", *SPEC_DIRECTORIES):
        (folder / directory.strip("/")).mkdir(parents=True, exist_ok=True)
    for path in SPEC_DIRECTORIES:
        Path(path).mkdir(parents=True, exist_ok=True)
    start = Start(podman, host, runtime, folder)
    runners: dict[str, list[Step]] = {}
    faults = []
    for form in (NO_DEVICE, *host.specs):
        failure = start.failure(form)
        if failure:
            faults.append(f"podman, {form}: {failure}")
        else:
            runners[form] = start.steps(form, ["/bin/true"])
    laps = race(runners, min(host.rounds, ROUNDS))
    version = subprocess.run([podman, "--version"], capture_output=True, text=True, check=False)
    rounds = len(next(iter(laps.values())))
    text = [
        f"`podman run --rm --rootfs DIRECTORY /bin/true` with {name}, {version.stdout.strip()}; wall ms, medians of {rounds} interleaved rounds.",
        "In brackets: what the form adds to a container without a device, divided by what NVIDIA's spec adds, and",
        "the 95% interval of that ratio.",
        "",
        *markdown_table(("", "wall", "added"), (_row(form, laps) for form in laps)),
    ]
    lines = "\n".join(
        f"{form}: {' '.join(f'{lap.wall:.1f}' for lap in values)}" for form, values in laps.items()
    )
    transcript = transcript_entry("rounds of podman, ms", lines, len(laps))
    return Section(title, tuple(text), tuple(transcript), tuple(faults))


class Start:
    """How podman starts a container with the specs of a form."""

    def __init__(self, podman: str, host: Host, runtime: Runtime, folder: Path) -> None:
        self._podman = podman
        self._host = host
        self._runtime = runtime
        self._folder = folder

    def steps(self, form: str, command: Sequence[str]) -> list[Step]:
        """Return the steps of a start: a new root, the specs, podman."""
        root = self._folder / "container"
        # Podman reads every directory of specs, so the other ones are empty.
        mounts = " && ".join(
            f"{{ ! mountpoint -q {path} || umount -l {path}; }} && mount --bind {source} {path}"
            for path, source in self._spec_mounts(form).items()
        )
        script = f"{bundles.new_root(self._runtime, root)} && {mounts}"
        program = shutil.which(self._runtime.command[0]) or self._runtime.command[0]
        argv = [self._podman, "--root", str(self._folder / "root")]
        argv += ["--runroot", str(self._folder / "run"), "--tmpdir", str(self._folder / "tmp")]
        argv += ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]
        argv += ["--events-backend", "file", "--runtime", program, "run", "--rm", *OPTIONS]
        if form != NO_DEVICE:
            argv += ["--device", f"nvidia.com/gpu={ALL}"]
        argv += ["--rootfs", str(root / "rootfs"), *command]
        environment = {
            **ENVIRONMENT,
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder / "tmp"),
        }
        path = os.path.dirname(program)
        environment["PATH"] = f"{path}:/usr/local/bin:{environment['PATH']}"
        return [
            {"argv": ["/bin/sh", "-c", script], "env": ENVIRONMENT, "untimed": True},
            {"argv": argv, "env": environment},
        ]

    def failure(self, form: str) -> str:
        """Start a container once that looks for the driver; return why it is not as expected."""
        check = (
            "grep -q -e libcuda -e /dev/nvidiactl /proc/self/mountinfo || test -e /dev/nvidiactl"
        )
        if form == NO_DEVICE:
            check = f"! {{ {check}; }}"
        prepare, run = self.steps(form, ["/bin/sh", "-c", check])
        subprocess.run(prepare["argv"], env=prepare["env"], check=True)
        process = subprocess.run(
            run["argv"], env=run["env"], capture_output=True, text=True, check=False
        )
        if process.returncode == 0:
            return ""
        return f"exit {process.returncode}: {process.stderr.strip()[-300:]}"

    def _spec_mounts(self, form: str) -> Mapping[str, str]:
        empty = str(self._folder / "none")
        specs = self._host.specs.get(form)
        first, *others = SPEC_DIRECTORIES
        return {first: shlex.quote(str(specs or empty)), **dict.fromkeys(others, empty)}


def _row(form: str, laps: Mapping[str, Sequence[Lap]]) -> tuple[str, str, str]:
    wall = f"{median(lap.wall for lap in laps[form]):.1f}"
    if form == NO_DEVICE or NO_DEVICE not in laps:
        return form, wall, "-"
    pairs = zip(laps[form], laps[NO_DEVICE], strict=True)
    added = f"{median(lap.wall - other.wall for lap, other in pairs):.1f}"
    if form == NVIDIA or NVIDIA not in laps:
        return form, wall, added
    bar = wall_bar("", laps[form], laps[NVIDIA], 1, laps[NO_DEVICE])
    return form, wall, f"{added} ({bar.value:.2f}, {bar.low:.2f} to {bar.high:.2f})"
