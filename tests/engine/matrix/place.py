# SPDX-License-Identifier: Apache-2.0
"""A machine with a fake host's GPUs and a suite's engines: its daemons are started when asked for.

Engines are configured by ``cdi-gen engine configure``, so that what it writes is proved by engines
that run with it.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from cdi_gen.engines.machine import printed_version
from tests.engine.machine import Machine
from tests.engine.matrix.homes import Home
from tests.host.looking import REPOSITORY
from tests.lab import debian
from tests.lab.podman import Podman
from tests.lab.zoo import ZOO

IMAGE = "/image.tar"
PAUSE = "/pause.tar"
SOURCES = "/opt/cdi-gen"
PACKAGES = "/opt/cdi-gen-packages"
"""The packages of the tests' environment, for roots without those of cdi-gen."""
PYTHON_PATH = f"{SOURCES}:{SOURCES}/specs:{SOURCES}/hooks:{PACKAGES}"
PATIENCE = "for i in $(seq 200); do {} >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1"

CDI_GEN = f"""\
#!/bin/sh
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={SOURCES}:{SOURCES}/specs:{SOURCES}/hooks \
exec /usr/bin/python3 -W ignore -m cdi_gen "$@"
"""

CONTAINERD = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  # Root of a build machine may lack CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
"""
PROGRAMS = {
    **{name: name for name in ("podman", "buildah", "containerd", "crun", "runc", "runsc")},
    "docker": "dockerd",
    "apptainer": "apptainer",
}
"""What says an engine's version."""

DOCKER_OF = {False: {}, True: {"DOCKER_HOST": f"unix:///run/user/{debian.USER}/docker.sock"}}
"""What root and the user have in the environment to find their own Docker."""

USERS_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "/home/user/.local/share/containers/storage"
runroot = "/run/user/1000/containers"
"""


def shown(image: Path, pause: Path, *programs: Path | None) -> dict[str, Path]:
    """What a place sees of the machine that tests run on: programs before Debian's of that name."""
    there = {f"/usr/local/bin/{program.name}": program for program in programs if program}
    packages = Path(sysconfig.get_path("purelib"))
    return {IMAGE: image, PAUSE: pause, SOURCES: REPOSITORY, PACKAGES: packages, **there}


class Place:
    """An entered host; ``suite`` is Debian's name of its engines' release."""

    def __init__(self, machine: Machine, suite: str, groups: str, home: Home) -> None:
        self.machine = machine
        self.suite = suite
        self.groups = groups
        self.image = home.image
        machine.inside.write("/usr/bin/cdi-gen", CDI_GEN, mode=0o755)
        self.serve()

    def __hash__(self) -> int:
        return id(self)

    def run(self, *words: str, user: int = 0, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a command; its failure is an answer like another."""
        how = {"timeout": 60, "env": DOCKER_OF[bool(user)], **how}
        return self.machine.inside.run(words, user=user, check=False, **how)

    def must(self, *words: str, user: int = 0, **how: Any) -> str:
        """Run a command that is no question; gives what it prints."""
        return self.machine.inside.run(words, user=user, env=DOCKER_OF[bool(user)], **how).stdout

    def write(self, path: str, content: object) -> str:
        """Write a file, JSON unless it is text; gives its path."""
        self.machine.inside.write(
            path, content if isinstance(content, str) else json.dumps(content)
        )
        return path

    def configure(self, engine: str, *options: str, user: int = 0) -> None:
        """Have cdi-gen configure an engine of this place."""
        self.must("cdi-gen", "engine", "configure", engine, *options, user=user)

    def has(self, program: str) -> bool:
        return self.run("sh", "-c", f"command -v {program}").returncode == 0

    @functools.cache  # noqa: B019 - a place lives as long as the session
    def versions(self) -> dict[str, str]:
        """The version of each engine that is here."""
        found = {}
        for engine, program in PROGRAMS.items():
            if self.has(program):
                found[engine] = printed_version(self.must(program, "--version")) or "?"
        return found

    @functools.cache  # noqa: B019
    def podman(self, user: int) -> None:
        """Podman with the images in this user's storage."""
        if user:
            # podman 5.8 would take the machine's for the user's too.
            self.write("/home/user/.config/containers/storage.conf", USERS_STORAGE)
            self.must("chown", "-R", f"{user}:{user}", "/home/user/.config")
        Podman(self.machine.inside, user=user).load(IMAGE)

    @functools.cache  # noqa: B019
    def docker(self, user: int) -> None:
        """A running dockerd, root's or the user's own, and its containerd."""
        command, load = "docker ps", ("docker", "load", "--quiet", "--input")
        if user:
            self.configure("docker", "--runtime", "--rootless", user=user)
            # Without a network of its own: no tap device, and nobody is to be reached.
            # /etc as it is: below a copied one /etc/cdi is a link, and Docker's CDI follows none.
            kit = "rootlesskit --net=host --copy-up=/run --propagation=rslave"
            dockerd = "rm -f /run/docker /run/containerd; exec dockerd --rootless --bridge=none"
            daemon = f"{kit} sh -c '{dockerd} --iptables=false --ip-forward=false'"
            self._daemon(daemon, "/home/user/docker.log", ready=command, user=user)
        else:
            self.configure("docker", "--runtime")
            self._storage("docker")
            self._daemon("dockerd", "/var/log/docker.log", ready=command)
        self.must(*load, IMAGE, user=user)

    @functools.cache  # noqa: B019
    def containerd(self) -> None:
        """A running containerd, apart from Docker's."""
        self.write("/etc/containerd/config.toml", CONTAINERD)
        self.configure("containerd", "--runtime")
        self._storage("containerd")
        self._daemon("containerd", "/var/log/containerd.log", ready="ctr version")
        for archive in (IMAGE, PAUSE):
            for namespace in ("default", "k8s.io"):
                self.must("ctr", "--namespace", namespace, "image", "import", archive)

    @functools.cache  # noqa: B019
    def files(self) -> str:
        """A folder with the image's files, for runtimes without an engine."""
        self.podman(0)
        self.must("mkdir", "-p", "/run/image")
        script = (
            f"id=$(podman create localhost/{self.image}) && podman export $id | "
            "tar -x -C /run/image && podman rm $id"
        )
        self.must("sh", "-c", script)
        return "/run/image"

    def environment(self) -> list[str]:
        """What the image sets, as an engine writes it into a bundle."""
        return [
            f"{name}={value}" for name, value in ZOO[self.image].configuration.environment.items()
        ]

    def bundle(self) -> str:
        """A bundle, new each time: what hooks write in an image's files would stay."""
        script = f"rm -rf /run/bundle; mkdir /run/bundle; cp -a {self.files()} /run/bundle/rootfs"
        self.must("sh", "-c", script)
        self.must("runc", "spec", "--bundle", "/run/bundle")
        return "/run/bundle"

    def serve(self, *options: str) -> None:
        """Have engines find the spec that these options of `cdi-gen generate` make of the host."""
        self.machine.serve(nvidia=self.machine.generate(*options))

    def another_spec(self, *options: str) -> str:
        """A folder, where no engine looks, with the spec that these options make of the host."""
        folder = "/run/another-spec"
        self.write(f"{folder}/nvidia.json", self.machine.generate(*options))
        return folder

    def _storage(self, name: str) -> None:
        # An overlay cannot lie on an overlay: the daemon's storage needs a plain file system.
        self.must("mkdir", "-p", f"/var/lib/{name}")
        self.must("mount", "-t", "tmpfs", "tmpfs", f"/var/lib/{name}")

    def _daemon(self, command: str, log: str, *, ready: str, user: int = 0) -> None:
        self.must("ip", "link", "set", "lo", "up")
        self.must("sh", "-c", f"{command} >{log} 2>&1 </dev/null &", user=user)
        waited = self.run("sh", "-c", PATIENCE.format(ready), user=user)
        assert waited.returncode == 0, self.must("tail", "-n", "20", log)
