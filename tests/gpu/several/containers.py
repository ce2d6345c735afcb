# SPDX-License-Identifier: Apache-2.0
"""Containers of runc or crun: one or several at a time, with or without shared namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.gpu.programs import container
from tests.gpu.programs.container import FAILED, NOT_THERE, PASSED, TIMED_OUT, Outcome, cdi_gen
from tests.gpu.programs.machine import Root, mount
from tests.gpu.programs.programs import ABSENT, Program

SHM = "64m"
"""The default size of /dev/shm with Docker and Podman."""

EXCHANGE = "/exchange"
"""The directory in which containers leave files for each other."""

MOUNT_POINTS = ("inside", "gpu", "proc", "sys", "dev", "run", "tmp")


class Container(NamedTuple):
    """A container that runs a script."""

    script: str
    devices: tuple[str, ...] = ()
    """Device names of the kind nvidia.com/gpu."""
    specs: Path | None = None
    """A directory of CDI specs. Required if there are devices."""
    shared: frozenset[str] = frozenset()
    """Namespaces of the machine that the container uses: ipc (and one common /dev/shm), pid, uts."""
    shm: str = SHM
    """The size of /dev/shm."""
    rlimits: tuple[tuple[str, int], ...] = ()
    """Such as ``("nofile", 256)``."""
    variables: tuple[tuple[str, str], ...] = ()
    seconds: int = 120
    name: str = ""
    """Its id; one is made if it is empty."""
    shim: str | None = None
    """The program that starts the runtime."""
    shim_variables: tuple[tuple[str, str], ...] = ()
    """Variables of that program."""


class Runtime(NamedTuple):
    """runc or crun on this machine."""

    command: Sequence[str]
    root: Root
    folder: Path
    """In memory. Every container has a directory in it."""
    environment: Mapping[str, str]
    volumes: Mapping[str, Path]
    """Directories of the host by their path in containers. All except ``EXCHANGE`` are read-only."""
    state: Path | None = None
    """Another directory of states than one in ``folder``, which only this package knows."""

    def run(self, *containers: Container) -> list[Outcome]:
        """Start all containers, then wait for all of them."""
        with self.started(*containers) as processes:
            return [self._wait(process) for process in processes]

    @contextmanager
    def started(self, *containers: Container) -> Iterator[list[Started]]:
        """Start all containers; whatever still runs at the end is killed."""
        shm = self.folder / "shm"
        shm.mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", f"size={containers[0].shm},mode=1777", "shm", shm)
        processes: list[Started] = []
        try:
            for number, contents in enumerate(containers):
                name = contents.name or f"several-{os.getpid()}-{number}"
                processes.append(self._start(name, contents, shm))
            yield processes
        finally:
            for process in processes:
                self._remove(process)
            subprocess.run(["umount", "--lazy", str(shm)], check=False)

    def configuration(self, name: str, contents: Container, shm: Path) -> dict[str, Any]:
        """Return the container's config.json without devices.

        Args:
            name: of the container, and its host name.
            contents: what it runs, and how.
            shm: the common /dev/shm of containers that share ipc.
        """
        environment = {**self.environment, **dict(contents.variables)}
        program = Program(name, contents.script)
        configuration = container.configuration(program, self.root.volumes, environment)
        linux = configuration["linux"]
        linux["namespaces"] = [
            namespace
            for namespace in linux["namespaces"]
            if namespace["type"] not in contents.shared
        ]
        if "uts" not in contents.shared:
            configuration["hostname"] = name
        for entry in configuration["mounts"]:
            if entry["destination"] == "/dev/shm":
                if "ipc" in contents.shared:
                    entry |= {"type": "bind", "source": str(shm), "options": ["rbind", "rw"]}
                else:
                    entry["options"] = [*entry["options"], f"size={contents.shm}"]
        for destination, path in self.volumes.items():
            access = "rw" if destination == EXCHANGE else "ro"
            configuration["mounts"].append(
                {
                    "destination": destination,
                    "type": "bind",
                    "source": str(path),
                    "options": ["rbind", access, "rprivate"],
                }
            )
        if contents.rlimits:
            configuration["process"]["rlimits"] = [
                {"type": f"RLIMIT_{resource.upper()}", "soft": limit, "hard": limit}
                for resource, limit in contents.rlimits
            ]
        return configuration

    def _start(self, name: str, contents: Container, shm: Path) -> Started:
        bundle = self.folder / name
        rootfs = self.root.overlay(bundle)
        for directory in (*MOUNT_POINTS, *self.volumes):
            (rootfs / directory.lstrip("/")).mkdir(exist_ok=True)
        text = json.dumps(self.configuration(name, contents, shm))
        (bundle / "config.json").write_text(text, encoding="utf-8")
        if contents.devices:
            words = ["--spec-dir", str(contents.specs)]
            for device in contents.devices:
                words += ["--device", f"nvidia.com/gpu={device}"]
            cdi_gen("inject", *words, "--in-place", str(bundle))
        with (bundle / "output").open("wb") as output:
            argv = [*self._argv("run"), "--bundle", str(bundle), name]
            if contents.shim:
                argv[0] = contents.shim
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **dict(contents.shim_variables)},
            )
        return Started(name, bundle, process, time.monotonic(), contents.seconds)

    def _wait(self, process: Started) -> Outcome:
        remaining = process.start_time + process.seconds - time.monotonic()
        try:
            status: int | None = process.popen.wait(max(remaining, 0))
        except subprocess.TimeoutExpired:
            status = None
            argv = [*self._argv("kill"), process.name, "KILL"]
            subprocess.run(argv, capture_output=True, check=False)
        seconds = time.monotonic() - process.start_time
        output = (process.bundle / "output").read_text(encoding="utf-8", errors="replace")
        return Outcome(_verdict(status), seconds, output)

    def _remove(self, process: Started) -> None:
        if process.popen.poll() is None:
            time.sleep(0.5)
            process.popen.kill()
            process.popen.wait()
        argv = [*self._argv("delete"), "--force", process.name]
        subprocess.run(argv, capture_output=True, check=False)
        subprocess.run(["umount", "--lazy", str(process.bundle / "rootfs")], check=False)
        shutil.rmtree(process.bundle, ignore_errors=True)

    def first_process(self, name: str) -> int | None:
        """Return the process id of a container that runs; None if it does not."""
        process = subprocess.run(
            [*self._argv("state"), name], capture_output=True, text=True, check=False
        )
        try:
            state = json.loads(process.stdout)
        except ValueError:
            return None
        return int(state["pid"]) if state.get("status") == "running" else None

    def _argv(self, command: str) -> list[str]:
        return [*self.command, "--root", str(self.state or self.folder / "state"), command]


class Started(NamedTuple):
    """A container that was started."""

    name: str
    bundle: Path
    popen: subprocess.Popen[bytes]
    start_time: float
    seconds: int


def _verdict(status: int | None) -> str:
    if status is None:
        return TIMED_OUT
    if status == ABSENT:
        return NOT_THERE
    return PASSED if status == 0 else f"{FAILED}, exit {status}"
