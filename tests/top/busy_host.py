# SPDX-License-Identifier: Apache-2.0
"""A fake host whose containers use its GPUs, and whose values move.

``python -m tests.top.busy_host DIR [mig]`` makes one, and changes its values each second until it is
stopped; ``cdi-gen top --host-root DIR`` shows it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.fakehost import hosts
from tests.fakehost.hosts import FakeHost
from tests.fakehost.kernel import instance_minor
from tests.fakehost.nvml_values import CLOCK_REASONS, NvmlValues
from tests.fakehost.processes import Processes

GIB = 1 << 30


class Job(NamedTuple):
    """A container, and how it uses its devices."""

    engine: str
    name: str
    image: str
    devices: tuple[str, ...]
    command: str = ""
    """Of one process for each device; empty: no process uses a GPU."""
    memory: float = 0
    """GiB on each device."""
    load: float = 0
    """Per cent, around which it moves."""
    unit: str = ""


TRAIN = "python -m torch.distributed.run train.py --config llama-8b.yaml"
JOBS = (
    Job("pod", "research/llama-pretrain-0/trainer", "registry.example/research/train:2.9", ("0", "1", "2"), TRAIN, 71, 96),
    Job("docker", "vllm-chat", "vllm/vllm-openai:v0.9.1", ("3",), "python -m vllm.entrypoints.openai.api_server --model chat-70b", 66, 62),
    Job("podman", "notebook-anna", "quay.io/jupyter/pytorch-notebook:cuda12", ("4",), "python -m ipykernel_launcher -f kernel.json", 9, 18, "notebook-anna.service"),
    Job("podman", "notebook-ben", "quay.io/jupyter/pytorch-notebook:cuda12", ("4",), "python -m ipykernel_launcher -f kernel.json", 14, 7, "notebook-ben.service"),
    Job("pod", "media/transcode-7c9f/worker", "registry.example/media/ffmpeg:7", ("5",), "ffmpeg -hwaccel cuda -i in.mkv -c:v hevc_nvenc out.mkv", 3, 31),
    Job("docker", "forgotten-experiment", "pytorch/pytorch:2.9.0-cuda12.8", ("6",), "python sweep.py --lr 3e-4", 54, 0),
)  # fmt: skip
MIG_JOBS = (
    Job("pod", "serving/embed-0/server", "registry.example/serving/embed:1.4", ("0:0",), "tritonserver --model-repository /models", 3.1, 0),
    Job("pod", "serving/rerank-0/server", "registry.example/serving/rerank:1.1", ("0:1",), "tritonserver --model-repository /models", 4.2, 0),
    Job("docker", "ci-runner-3", "registry.example/ci/cuda:12.8", ("0:2", "1:0"), "pytest tests/gpu", 1, 0),
    Job("podman", "course-student-12", "quay.io/jupyter/pytorch-notebook:cuda12", ("1:3",), "", 0, 0),
)  # fmt: skip


class BusyHost:
    """A fake host with containers.

    Args:
        fake: the host, of the caller's own: ``550-8gpu``, or ``550-mig56`` for `MIG_JOBS`.
        jobs: its containers.
    """

    def __init__(self, fake: FakeHost, jobs: tuple[Job, ...] = JOBS) -> None:
        self.fake = fake
        self.root = self.fake.root
        self.values = NvmlValues(self.fake.nvml)
        self.processes = Processes(self.root)
        self._next_pid = 4000
        self._stored: list[dict[str, object]] = []
        self._running: list[tuple[str, int, Job]] = []
        name = self.root / "etc/hostname"
        name.unlink(missing_ok=True)  # a hard link into the cache
        name.write_text("gpu-node-7\n")
        for index in range(len(self.fake.kernel.gpus)):
            self.idle(str(index))
        for number, job in enumerate(jobs, start=1):
            self.start(number, job)
        self.move(0)

    def idle(self, device: str) -> None:
        """Give a GPU the values of one without work."""
        self.values.set(
            device,
            clock_sm=345,
            clock_memory=2619,
            temperature=33,
            power=72_000,
            power_limit=700_000,
            power_limit_enforced=700_000,
            utilization_gpu=0,
            utilization_memory=0,
            utilization_encoder=0,
            utilization_decoder=0,
            memory_used=(4 << 20),
            memory_reserved=0,
            clock_reasons=CLOCK_REASONS["gpu_idle"],
        )

    def start(self, number: int, job: Job) -> None:
        """Start a container, with a process for each device or one that uses none."""
        container = f"{number:x}".rjust(2, "0") * 32
        namespace = self.processes.namespace(*self._nodes(job.devices))
        group, parent = self._record(job, container)
        for device in job.devices:
            pid = self._pid()
            name = (job.command or "sleep").partition(" ")[0]
            self.processes.start(pid, name=name, parent=parent, namespace=namespace, group=group)
            command = (job.command or "sleep infinity").replace(" ", "\0") + "\0"
            (self.root / f"proc/{pid}/cmdline").write_text(command)
            if job.command:
                self._running.append((device, pid, job))

    def start_on_host(self, device: str, command: str, memory: float, load: int) -> int:
        """Start a process that is in no container; return its number."""
        pid = self._pid()
        self.processes.start(pid, name=command.partition(" ")[0])
        (self.root / f"proc/{pid}/cmdline").write_text(command.replace(" ", "\0") + "\0")
        self.values.run(device, pid, memory=round(memory * GIB), sm=load)
        return pid

    def move(self, step: int) -> None:
        """Change the values, as a second later."""
        load: dict[str, float] = {}
        memory: dict[str, float] = {}
        for place, (device, pid, job) in enumerate(self._running):
            wave = math.sin(step / 3 + place) * 0.6 + math.sin(step / 7.3 + 2 * place) * 0.4
            percent = round(min(99, max(0, job.load * (1 + 0.25 * wave)))) if job.load else 0
            self.values.run(device, pid, memory=round(job.memory * GIB), sm=percent)
            load[device] = min(100, load.get(device, 0) + percent)
            memory[device] = memory.get(device, 0.1) + job.memory
        for device, share in load.items():
            used = round(memory[device] * GIB)
            if ":" in device:
                gpm = 50 + 45 * math.sin(step / 4 + len(device) + int(device[-1]))
                self.values.set(device, memory_used=used, gpm_1=gpm)
                continue
            self.values.set(
                device,
                utilization_gpu=round(share),
                utilization_memory=round(share * 0.6),
                memory_used=used,
                clock_sm=1980 if share else 345,
                temperature=round(36 + share * 0.38),
                power=round(90_000 + share * 5_900),
                clock_reasons=CLOCK_REASONS["sw_power_cap"] if share > 97 else 0,
            )

    def _pid(self) -> int:
        self._next_pid += 17
        return self._next_pid

    def _nodes(self, devices: tuple[str, ...]) -> list[tuple[str, int, int]]:
        nodes = {("nvidiactl", 195, 255)}
        for device in devices:
            index, _, number = device.partition(":")
            gpu = self.fake.kernel.gpus[int(index)]
            nodes.add((f"nvidia{gpu.minor}", 195, gpu.minor))
            if number:
                mig = gpu.mig[int(number)]
                for compute in (None, mig.ci):
                    minor = instance_minor(gpu.minor, mig.gi, compute)
                    major = self.fake.kernel.caps_major
                    nodes.add((f"nvidia-caps/nvidia-cap{minor}", major, minor))
        return sorted(nodes)

    def _record(self, job: Job, container: str) -> tuple[str, int]:
        """Write what the engine writes about a container; return its group and its parent."""
        if job.engine == "docker":
            document = {"Name": f"/{job.name}", "Config": {"Image": job.image}}
            self._write(f"var/lib/docker/containers/{container}/config.v2.json", document)
            return f"/system.slice/docker-{container}.scope", 1
        if job.engine == "pod":
            namespace, pod, name = job.name.split("/")
            annotations = {
                "io.kubernetes.cri.container-name": name,
                "io.kubernetes.cri.image-name": job.image,
                "io.kubernetes.cri.sandbox-name": pod,
                "io.kubernetes.cri.sandbox-namespace": namespace,
            }
            tasks = "run/containerd/io.containerd.runtime.v2.task/k8s.io"
            self._write(f"{tasks}/{container}/config.json", {"annotations": annotations})
            return f"/kubepods.slice/cri-containerd-{container}.scope", 1
        storage = "/var/lib/containers/storage/overlay-containers"
        bundle = f"{storage}/{container}/userdata"
        annotations = {"io.container.manager": "libpod"}
        self._write(f"{bundle}/config.json", {"annotations": annotations})
        metadata = json.dumps({"image-name": job.image})
        self._stored.append({"id": container, "names": [job.name], "metadata": metadata})
        self._write(f"{storage}/containers.json", self._stored)
        monitor = self._pid()
        self.processes.start(monitor, name="conmon")
        words = ("conmon", "-c", container, "-b", bundle, "-n", job.name)
        (self.root / f"proc/{monitor}/cmdline").write_text("\0".join(words) + "\0")
        slice_ = f"/system.slice/{job.unit}" if job.unit else "/machine.slice"
        return f"{slice_}/libpod-payload-{container}", monitor

    def _write(self, path: str, value: object) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))


def made(path: Path, *, is_mig: bool) -> BusyHost:
    """Make a host, with a process that is in no container."""
    fake = hosts.build("550-mig56" if is_mig else "550-8gpu", path)
    host = BusyHost(fake, MIG_JOBS if is_mig else JOBS)
    host.start_on_host("0:3" if is_mig else "7", "/usr/bin/nvidia-cuda-mps-server", 0.4, 2)
    if not is_mig:
        host.values.set("7", utilization_gpu=2, memory_used=GIB // 2, clock_reasons=0)
    return host


def main() -> None:
    """Make a host, and change its values until it is stopped."""
    path, *words = sys.argv[1:]
    host = made(Path(path), is_mig="mig" in words)
    print(host.root, flush=True)
    step = 0
    while True:
        time.sleep(1)
        step += 1
        host.move(step)


if __name__ == "__main__":
    main()
