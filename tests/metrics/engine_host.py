# SPDX-License-Identifier: Apache-2.0
"""A host with eight GPUs and container engines, cdi-gen in it, and an NVML whose values a test sets."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.engine.beside_engines import DOCKER
from tests.engine.matrix.place import USERS_STORAGE
from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import NvmlValues
from tests.host import looking
from tests.lab import debian, prometheus
from tests.lab.engines import Inside, Lab, Started
from tests.lab.kubernetes import gpu_host, packages
from tests.lab.kubernetes.waiting import until
from tests.lab.podman import Podman

SOURCES = Path("/opt/cdi-gen")
"""This checkout, inside."""
SHIM = "/usr/bin/nvidia-container-runtime"
IMAGE = "localhost/debian"
ADDRESS = "127.0.0.1:9400"
COMMAND = ("sleep", "100000")

_LINKS = ("nvidia-cdi-hook", "nvidia-container-runtime", "nvidia-container-runtime-hook")
_VALUES = "/run/nvml-mock"

ENVIRONMENT = {**packages.ENVIRONMENT, "NVML_MOCK_VALUES": f"{_VALUES}/nvml-mock.values"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A container that runs, and what its series must have."""

    gpu: str
    labels: Mapping[str, str]
    """Those that say which container it is."""
    pid: int
    """Its first process, in the host's namespace."""
    image: str
    end: Callable[[], object]


class EngineHost:
    """An entered host. Each function that starts a container gives it one GPU.

    Attributes:
        inside: runs commands in the host.
        values: what NVML answers.
    """

    def __init__(self, inside: Inside, values: NvmlValues) -> None:
        self.inside = inside
        self.values = values

    def version(self, program: str) -> int:
        """Return the major version of an engine's program."""
        # Docker version 28.5.2, build …; containerd github.com/containerd/containerd/v2 2.1.9 …
        number = re.search(r" (\d+)\.", self.inside.run([program, "--version"]).stdout)
        assert number, program
        return int(number[1])

    def cdi_gen(self, *words: str) -> str:
        """Run cdi-gen; return what it prints."""
        return self.inside.run([*packages.CDI_GEN, *words], env=ENVIRONMENT).stdout

    def metrics(self, *options: str) -> Started:
        """Start `cdi-gen metrics`, which measures each second."""
        words = ("metrics", "--listen", ADDRESS, "--interval", "1s", *options)
        return self.inside.start(
            [*packages.CDI_GEN, *words], log="/var/log/metrics.log", env=ENVIRONMENT
        )

    def podman(self, runtime: str, user: int, name: str, gpu: str, *options: str) -> Running:
        """Start a container of Podman."""
        podman = Podman(self.inside, runtime=runtime, user=user)
        if IMAGE not in podman("images", "--format", "{{.Repository}}").stdout:
            podman.load("/images.tar")
        command = ("run", "-d", "--name", name, *options, IMAGE, *COMMAND)
        container = podman(*command).stdout.strip()
        pid = int(podman("inspect", "--format", "{{.State.Pid}}", container).stdout)
        labels = {"engine": "podman", "container_id": container, "name": name}
        return Running(
            gpu=gpu,
            labels=labels | ({"user": "user"} if user else {}),
            pid=pid,
            image=f"{IMAGE}:latest",
            end=lambda: podman("rm", "--force", "--time", "0", name),
        )

    def start_docker(self) -> None:
        """Start dockerd, and load the image."""
        self.inside.write("/etc/docker/daemon.json", '{"features": {"cdi": true}}')
        self._make_storage("docker")
        options = ("--bridge=none", "--iptables=false", "--ip6tables=false")
        self.inside.start(["dockerd", *options], log="/var/log/dockerd.log")
        until(lambda: self._works("test", "-S", "/run/docker.sock"), "dockerd listens")
        self._docker("POST", "/images/load", "/images.tar", "application/x-tar")

    def docker(self, name: str, gpu: str, **request: Any) -> Running:
        """Start a container of Docker with a request for devices, as its client sends it."""
        host = {"NetworkMode": "none", "DeviceRequests": [request]}
        body = {"Image": IMAGE, "Cmd": COMMAND, "HostConfig": host}
        container = self._docker("POST", f"/containers/create?name={name}", json.dumps(body))["Id"]
        self._docker("POST", f"/containers/{container}/start", "{}")
        state = self._docker("GET", f"/containers/{container}/json", "{}")["State"]
        return Running(
            gpu=gpu,
            labels={"engine": "docker", "container_id": container, "name": name},
            pid=state["Pid"],
            image=IMAGE,
            end=lambda: self._docker("DELETE", f"/containers/{container}?force=1", "{}"),
        )

    def start_containerd(self) -> None:
        """Start containerd, and load the image."""
        self._make_storage("containerd")
        self.inside.start(["containerd"], log="/var/log/containerd.log")
        until(lambda: self._works("ctr", "version"), "containerd answers")
        self.inside.run(["ctr", "image", "import", "/images.tar"])

    def ctr(self, container: str, gpu: str) -> Running:
        """Start a container of containerd; with the node of a GPU, where ctr knows no CDI."""
        knows_cdi = self.version("containerd") >= 2
        device = f"nvidia.com/gpu={gpu}" if knows_cdi else f"/dev/nvidia{gpu}"
        options = ("--cpu-shares", "0", "--device", device)
        image = f"{IMAGE}:latest"
        self.inside.run(["ctr", "run", "-d", *options, image, container, *COMMAND])
        tasks = self.inside.run(["ctr", "task", "list"]).stdout.splitlines()
        (pid,) = [int(task.split()[1]) for task in tasks if task.split()[0] == container]
        return Running(
            gpu=gpu,
            labels={"engine": "containerd", "container_id": container},
            pid=pid,
            image="",  # containerd keeps it in a database of its own
            end=lambda: self.inside.run(["ctr", "task", "kill", "--signal", "KILL", container]),
        )

    def alone(self, runtime: str, container: str, gpu: str) -> Running:
        """Start a container of a runtime without an engine, whose bundle `cdi-gen inject` edits."""
        bundle = f"/run/bundles/{container}"
        script = (
            'mkdir -p "$1/rootfs"; id=$(podman create "$2") && podman export "$id" | '
            'tar -x -C "$1/rootfs" && podman rm "$id" && runc spec --bundle "$1"'
        )
        self.inside.run(["sh", "-ec", script, "sh", bundle, IMAGE])
        config = json.loads(self.inside.read(f"{bundle}/config.json"))
        config["process"] |= {"terminal": False, "args": COMMAND}
        config["process"].pop("rlimits")
        config["root"]["readonly"] = False
        self.inside.write(f"{bundle}/config.json", json.dumps(config))
        self.cdi_gen("inject", "--device", f"nvidia.com/gpu={gpu}", "--in-place", bundle)
        script = 'exec "$@" </dev/null >/dev/null 2>&1'
        command = (runtime, "run", "--detach", "--bundle", bundle, container)
        self.inside.run(["sh", "-c", script, "sh", *command])
        pid = json.loads(self.inside.run([runtime, "state", container]).stdout)["pid"]
        return Running(
            gpu=gpu,
            labels={"engine": runtime, "container_id": container},
            pid=pid,
            image="",
            end=lambda: self.inside.run([runtime, "delete", "--force", container]),
        )

    def _docker(
        self, method: str, path: str, content: str, kind: str = "application/json"
    ) -> dict[str, Any]:
        command = ["python3", "-c", DOCKER, method, path, kind, content]
        answer = self.inside.run(command).stdout.strip()
        document: dict[str, Any] = (
            json.loads(answer) if kind == "application/json" and answer else {}
        )
        return document

    def _make_storage(self, engine: str) -> None:
        """Give a daemon a file system: its overlays cannot lie on that of the lab."""
        self.inside.run(["mkdir", "-p", f"/var/lib/{engine}"])
        self.inside.run(["mount", "-t", "tmpfs", "tmpfs", f"/var/lib/{engine}"])

    def _works(self, *command: str) -> bool:
        return self.inside.run(command, check=False).returncode == 0


def all_engines(host: EngineHost) -> list[Running]:
    """Start a container in each way. GPU 0 has two of them, GPU 7 is nobody's."""
    visible = "--env=NVIDIA_VISIBLE_DEVICES="
    containers = [
        host.podman("crun", 0, "cdi", "0", "--device=nvidia.com/gpu=0"),
        host.podman("runc", debian.USER, "rootless", "0", "--device=nvidia.com/gpu=0"),
        host.podman(SHIM, 0, "shim", "1", f"{visible}1"),
    ]
    host.start_docker()
    cdi = {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=2"]}
    # What `docker run --gpus device=3` sends: Docker before 29 starts the prestart hook for it.
    gpus = {"Driver": "", "DeviceIDs": ["3"], "Capabilities": [["gpu"]]}
    if host.version("dockerd") >= 25:  # before, Docker has no CDI
        containers.append(host.docker("docker-cdi", "2", **cdi))
    containers.append(host.docker("docker-gpus", "3", **gpus))
    host.start_containerd()
    containers.append(host.ctr("by-ctr", "4"))
    containers += [host.alone("runc", "by-runc", "5"), host.alone("crun", "by-crun", "6")]
    return containers


@contextlib.contextmanager
def enter(
    lab: Lab,
    fake: FakeHost,
    images: Path,
    scratch: Path,
    *programs: Path,
    cgroup: Literal["v1", "v2"] = "v2",
) -> Iterator[EngineHost]:
    """Enter a fake host of the test's own with the engines of a root, or newer programs."""
    python = fake.root / "usr/bin/python3"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch(mode=0o755)  # the lab's is seen inside; a name is needed when hooks are installed
    links = [f"--{name}" for name in _LINKS]
    looking.run("hook", "install", "--prefix", "/usr", *links, root=str(fake.root))
    python.unlink()
    shown = scratch / "nvml"
    shown.mkdir()
    values = NvmlValues(shown / "libnvidia-ml.so")
    values.write()
    furniture = gpu_host.furniture(fake)
    furniture["binds"] |= {"/images.tar": images, _VALUES: shown, **prometheus.binds()}
    furniture["binds"] |= {f"/usr/local/bin/{program.name}": program for program in programs}
    with lab.enter(**furniture, cgroup=cgroup) as inside:
        # Views under /proc forbid rootless containers a /proc of their own, unless there is a
        # mount without views.
        for kind in ("proc", "sysfs"):
            inside.run(["mkdir", "-p", f"/srv/{kind}"])
            inside.run(["mount", "-t", kind, kind, f"/srv/{kind}"])
        prometheus.bring_up_loopback(inside)
        # Podman 5.8 would take root's storage for the user's too.
        inside.write("/home/user/.config/containers/storage.conf", USERS_STORAGE)
        inside.run(["chown", "-R", f"{debian.USER}:{debian.USER}", "/home/user/.config"])
        host = EngineHost(inside, values)
        words = ("generate", "--output", "/etc/cdi/nvidia.json")
        generated = inside.run([*packages.CDI_GEN, *words], env=ENVIRONMENT, check=False)
        assert generated.returncode in (0, 4), generated.stderr  # 4: without a broken device
        yield host
