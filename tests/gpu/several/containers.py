# SPDX-License-Identifier: Apache-2.0
"""Containers of runc or crun, one or several at a time, that share namespaces or do not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.gpu.programs import container
from tests.gpu.programs.container import FAILED, PASSED, TIMED_OUT, Outcome, cdi_gen
from tests.gpu.programs.machine import Root, mount
from tests.gpu.programs.programs import ABSENT, Program

SHM = "64m"
"""Docker's and Podman's own size of /dev/shm."""


class Container(NamedTuple):
    """One that runs a script."""

    script: str
    devices: tuple[str, ...] = ()
    """Names within nvidia.com/gpu."""
    specs: Path | None = None
    """A directory of CDI specs, where there are devices."""
    shared: frozenset[str] = frozenset()
    """Namespaces that it has in common with the machine: ipc (with /dev/shm), pid, uts."""
    shm: str = SHM
    """Size of /dev/shm."""
    rlimits: tuple[tuple[str, int], ...] = ()
    """Such as ``("memlock", 65536)``."""
    variables: tuple[tuple[str, str], ...] = ()
    seconds: int = 120


class Runtime(NamedTuple):
    """runc or crun on this machine."""

    command: Sequence[str]
    root: Root
    folder: Path
    """In memory; each container has a folder of its own below."""
    environment: Mapping[str, str]
    volumes: Mapping[str, Path]
    """By their place in containers, where they are read-only but for ``EXCHANGE``."""

    def run(self, *containers: Container) -> list[Outcome]:
        """Start them all, and wait for all."""
        shm = self.folder / "shm"
        shm.mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", f"size={containers[0].shm},mode=1777", "shm", shm)
        started: list[_Started] = []
        try:
            for number, each in enumerate(containers):
                started.append(self._start(f"several-{os.getpid()}-{number}", each, shm))
            return [self._end(each) for each in started]
        finally:
            for each in started:
                self._clean(each)
            subprocess.run(["umount", "--lazy", str(shm)], check=False)

    def configuration(self, name: str, each: Container, shm: Path) -> dict[str, Any]:
        """Its config.json, before a device is in it."""
        environment = {**self.environment, **dict(each.variables)}
        program = Program(name, each.script)
        made = container.configuration(program, self.root.volumes, environment)
        namespaces = made["linux"]["namespaces"]
        made["linux"]["namespaces"] = [
            each_of for each_of in namespaces if each_of["type"] not in each.shared
        ]
        if "uts" not in each.shared:
            made["hostname"] = name
        for entry in made["mounts"]:
            if entry["destination"] == "/dev/shm":
                if "ipc" in each.shared:
                    entry |= {"type": "bind", "source": str(shm), "options": ["rbind", "rw"]}
                else:
                    entry["options"] = [*entry["options"], f"size={each.shm}"]
        for place, path in self.volumes.items():
            options = ["rbind", "rw" if place == EXCHANGE else "ro", "rprivate"]
            made["mounts"].append(
                {"destination": place, "type": "bind", "source": str(path), "options": options}
            )
        if each.rlimits:
            made["process"]["rlimits"] = [
                {"type": f"RLIMIT_{name.upper()}", "soft": limit, "hard": limit}
                for name, limit in each.rlimits
            ]
        return made

    def _start(self, name: str, each: Container, shm: Path) -> _Started:
        bundle = self.folder / name
        rootfs = self.root.overlay(bundle)
        for directory in ("inside", "gpu", "proc", "sys", "dev", "run", "tmp", *self.volumes):
            (rootfs / directory.lstrip("/")).mkdir(exist_ok=True)
        text = json.dumps(self.configuration(name, each, shm))
        (bundle / "config.json").write_text(text, encoding="utf-8")
        if each.devices:
            words = ["--spec-dir", str(each.specs)]
            for device in each.devices:
                words += ["--device", f"nvidia.com/gpu={device}"]
            cdi_gen("inject", *words, "--in-place", str(bundle))
        with (bundle / "output").open("wb") as output:
            process = subprocess.Popen(
                [*self._words("run"), "--bundle", str(bundle), name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return _Started(name, bundle, process, time.monotonic(), each.seconds)

    def _end(self, started: _Started) -> Outcome:
        left = started.begun + started.seconds - time.monotonic()
        try:
            status: int | None = started.process.wait(max(left, 0))
        except subprocess.TimeoutExpired:
            status = None
            words = [*self._words("kill"), started.name, "KILL"]
            subprocess.run(words, capture_output=True, check=False)
        seconds = time.monotonic() - started.begun
        output = (started.bundle / "output").read_text(encoding="utf-8", errors="replace")
        return Outcome(_verdict(status), seconds, output)

    def _clean(self, started: _Started) -> None:
        if started.process.poll() is None:
            time.sleep(0.5)
            started.process.kill()
            started.process.wait()
        words = [*self._words("delete"), "--force", started.name]
        subprocess.run(words, capture_output=True, check=False)
        subprocess.run(["umount", "--lazy", str(started.bundle / "rootfs")], check=False)
        shutil.rmtree(started.bundle, ignore_errors=True)

    def _words(self, command: str) -> list[str]:
        return [*self.command, "--root", str(self.folder / "state"), command]


EXCHANGE = "/exchange"
"""Where containers leave files for each other."""


class _Started(NamedTuple):
    name: str
    bundle: Path
    process: subprocess.Popen[bytes]
    begun: float
    seconds: int


def _verdict(status: int | None) -> str:
    if status is None:
        return TIMED_OUT
    if status == ABSENT:
        return container.NOT_THERE
    return PASSED if status == 0 else f"{FAILED}, exit {status}"
