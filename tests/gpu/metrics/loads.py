# SPDX-License-Identifier: Apache-2.0
"""Containers whose loads are known: one computes without a pause, one has memory and is idle."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.gpu.several.containers import EXCHANGE, Container, Runtime
from tests.gpu.several.gpus import Gpu

MATMUL, IDLE = "matmul", "idle"
PROGRAM = Path(__file__).with_name("inside") / "load.py"
SPEC_DIRECTORY = "/run/cdi"
"""Where podman finds specs."""
PROGRAMS = "/gpu-load"
"""The directory of the program in containers."""
READY_SECONDS = 120

HOOK_FREE, SHIM = "hook-free", "shim"
SHIM_PROGRAM = "/usr/local/libexec/cdi-gen/cdi-gen-runtime"

PODMAN_OPTIONS = (
    *("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
    *("--security-opt", "label=disable", "--log-driver", "k8s-file"),
)


class Load(NamedTuple):
    """A container to start."""

    name: str
    kind: str
    """``matmul`` or ``idle``"""
    gibibytes: float
    gpu: Gpu
    way: str
    """``hook-free`` or ``shim``"""


class Loaded(NamedTuple):
    """A container that runs."""

    load: Load
    engine: str
    id: str
    pids: frozenset[int]
    """All its processes, by their PID namespace."""
    program: str
    """What its program has printed: the version of PyTorch, and the GPU."""
    modify_device_files: str = ""
    """The driver's parameter as the container sees it: 1 lets libraries make nodes of all GPUs."""


class Loads(NamedTuple):
    """How loads are started on this machine."""

    runtime: Runtime
    specs: Path
    """A directory with a spec without hooks."""
    folder: Path
    """In memory, visible in this mount namespace only."""
    podman: str | None = None
    """Starts the containers; None: the runtime does, with its usual directory of states."""
    program: Path = PROGRAM
    python: str = "python3"

    @contextmanager
    def running(self, loads: Sequence[Load]) -> Iterator[list[Loaded]]:
        """Start all loads, and wait until each has begun; end them at the end."""
        with ExitStack() as stack:
            by_engine: dict[str, tuple[str, str]] = {}
            raw = [] if self.podman else loads
            for load in loads:
                self._ready_file(load).unlink(missing_ok=True)
            for load in loads:
                if self.podman:
                    identity = stack.enter_context(self._podman_container(load))
                    by_engine[load.name] = ("podman", identity)
            if raw:
                stack.enter_context(self._runtime.started(*map(self._container, raw)))
            for load in raw:
                by_engine[load.name] = (os.path.basename(self.runtime.command[0]), load.name)
            yield [self._loaded(load, *by_engine[load.name]) for load in loads]

    @property
    def _runtime(self) -> Runtime:
        name = os.path.basename(self.runtime.command[0])
        return self.runtime._replace(state=Path("/run", name))

    def _ready_file(self, load: Load) -> Path:
        return Path(self.runtime.volumes[EXCHANGE], f"{load.name}.ready")

    def _command(self, load: Load) -> str:
        words = (self.python, f"{PROGRAMS}/{self.program.name}", load.kind, str(load.gibibytes))
        return shlex.join([*words, f"{EXCHANGE}/{load.name}.ready"])

    def _container(self, load: Load) -> Container:
        contents = Container(f"exec {self._command(load)}", name=load.name, seconds=3600)
        if load.way == SHIM:
            return contents._replace(
                variables=tuple(_request(load).items()),
                shim=SHIM_PROGRAM,
                shim_variables=(("NVIDIA_CTK_CONFIG_FILE_PATH", str(self._shim_configuration())),),
            )
        return contents._replace(devices=(str(load.gpu.index),), specs=self.specs)

    def _shim_configuration(self) -> Path:
        path = self.folder / "shim.toml"
        program = shutil.which(self.runtime.command[0])
        path.write_text(f'[nvidia-container-runtime]\nruntimes = ["{program}"]\n', encoding="utf-8")
        return path

    @contextmanager
    def _podman_container(self, load: Load) -> Iterator[str]:
        """Start a container of podman, which finds the specs at one of its directories."""
        rootfs = self.runtime.root.overlay(Path(tempfile.mkdtemp(dir=self.folder), load.name))
        volumes = self.runtime.volumes
        for directory in volumes:
            (rootfs / directory.strip("/")).mkdir(exist_ok=True)
        by_shim = load.way == SHIM
        words = [*self._podman_words(SHIM_PROGRAM if by_shim else None), "run", "--detach"]
        words += ["--replace", "--name", load.name, *PODMAN_OPTIONS]
        if not by_shim:
            words += ["--device", f"nvidia.com/gpu={load.gpu.index}"]
        for destination, path in volumes.items():
            words += ["--volume", f"{path}:{destination}"]
        # Podman makes /etc/hosts and /etc/resolv.conf itself.
        for destination in self.runtime.root.volumes:
            if destination.startswith("/etc/"):
                continue
            words += ["--volume", f"{destination}:{destination}:ro"]
        variables = {**self.runtime.environment, **(_request(load) if by_shim else {})}
        for name, value in variables.items():
            words += ["--env", f"{name}={value}"]
        words += ["--rootfs", str(rootfs), "/bin/sh", "-c", f"exec {self._command(load)}"]
        try:
            identity = self._run(words).strip()
            try:
                yield identity
            finally:
                self._run([*self._podman_words(), "rm", "--force", "--time", "1", identity])
        finally:
            subprocess.run(["umount", "--lazy", str(rootfs)], check=False)

    def _podman_words(self, runtime: str | None = None) -> list[str]:
        folder = self.folder / "podman"
        for directory in ("root", "run", "tmp"):
            (folder / directory).mkdir(parents=True, exist_ok=True)
        program = runtime or shutil.which(self.runtime.command[0]) or self.runtime.command[0]
        return [
            *(self.podman or "podman", "--root", str(folder / "root")),
            *("--runroot", str(folder / "run"), "--tmpdir", str(folder / "tmp")),
            *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"),
            *("--events-backend", "file", "--runtime", program),
        ]

    def _run(self, words: Sequence[str]) -> str:
        process = subprocess.run(words, capture_output=True, text=True, check=False)
        if process.returncode:
            raise OSError(f"{shlex.join([words[0], *words[-6:]])}: {process.stderr.strip()[-500:]}")
        return process.stdout

    def _loaded(self, load: Load, engine: str, identity: str) -> Loaded:
        ready_file = self._ready_file(load)
        limit = time.monotonic() + READY_SECONDS
        while not (ready_file.exists() and ready_file.read_text(encoding="utf-8")):
            if time.monotonic() > limit or self._first(load, engine, identity) is None:
                raise OSError(f"the container {load.name} has not begun: {self._output(load)}")
            time.sleep(0.2)
        first = self._first(load, engine, identity)
        if first is None:
            raise OSError(f"the container {load.name} has ended: {self._output(load)}")
        program = ready_file.read_text(encoding="utf-8").strip()
        parameter = modify_device_files(first)
        return Loaded(load, engine, identity, processes_in(first), program, parameter)

    def _first(self, load: Load, engine: str, identity: str) -> int | None:
        """Return its first process; None if it does not run. A shim may still be at work."""
        if engine == "podman":
            words = [*self._podman_words(), "inspect", "--format", "{{.State.Pid}}", identity]
            return int(self._run(words)) or None
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            pid = self._runtime.first_process(load.name)
            if pid is not None:
                return pid
            time.sleep(0.1)
        return None

    def _output(self, load: Load) -> str:
        if self.podman:
            words = [*self._podman_words(), "logs", load.name]
            process = subprocess.run(words, capture_output=True, text=True, check=False)
            return (process.stdout + process.stderr).strip()[-1000:]
        path = self.runtime.folder / load.name / "output"
        return path.read_text(encoding="utf-8", errors="replace").strip()[-1000:]


def _request(load: Load) -> dict[str, str]:
    """Return the variables by which a container requests a GPU from the shim."""
    return {
        "NVIDIA_VISIBLE_DEVICES": str(load.gpu.index),
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }


def modify_device_files(first: int) -> str:
    """Return the parameter ModifyDeviceFiles of the driver as a process sees it; empty: none."""
    try:
        root = Path(f"/proc/{first}/root")
        params = (root / "proc/driver/nvidia/params").read_text(encoding="utf-8")
    except OSError:
        return ""
    return next(
        (line.split()[1] for line in params.splitlines() if line.startswith("ModifyDeviceFiles: ")),
        "",
    )


def processes_in(first: int) -> frozenset[int]:
    """Return the processes in the PID namespace of a process."""
    namespace = os.readlink(f"/proc/{first}/ns/pid")
    pids = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == namespace:
                    pids.add(int(name))
            except OSError:  # it has ended
                continue
    return frozenset(pids)


def memory_of(loaded: Loaded, mebibytes: Mapping[int, float]) -> float:
    """Return the bytes of GPU memory of the container's processes, from values by process."""
    return sum(mebibytes.get(pid, 0.0) for pid in loaded.pids) * 2**20
