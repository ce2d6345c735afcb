# SPDX-License-Identifier: Apache-2.0
"""A host with GPUs, crun and `cdi-gen metrics`, whose containers and GPUs a test changes.

The containers are crun's; the NVML is the mock, whose values are written from outside.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import service_probe
from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import NvmlValues
from tests.lab.engines import Inside, Lab, Started
from tests.lab.kubernetes import gpu_host, packages
from tests.metrics import churn_probe

Node = tuple[str, int, int]
"""The name in /dev, major and minor number of a device node."""

SUITE = "trixie-systemd"
ADDRESS = "127.0.0.1:9400"

_VALUES = "/run/nvml-mock"
_COMPILED = "/run/pycache"

ENVIRONMENT = {
    **packages.ENVIRONMENT,
    "NVML_MOCK_VALUES": f"{_VALUES}/nvml-mock.values",
    # An installation has compiled modules.
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": _COMPILED,
}

_ROOT = """
mkdir -p /srv/rootfs/dev /srv/rootfs/proc /srv/rootfs/sys
cp --parents -L /usr/bin/sleep /usr/lib/x86_64-linux-gnu/libc.so.6 /srv/rootfs
mkdir -p /srv/rootfs/lib64 && cp -L /lib64/ld-linux-x86-64.so.2 /srv/rootfs/lib64
ln -s usr/bin /srv/rootfs/bin; ln -s usr/lib /srv/rootfs/lib
"""
"""A root file system with sleep."""

_WRITE_BUNDLES = """
import json, os, sys
for name, configuration in json.load(sys.stdin).items():
    os.makedirs(f"/srv/bundles/{name}", exist_ok=True)
    with open(f"/srv/bundles/{name}/config.json", "w") as file:
        json.dump(configuration, file)
"""
_START = """
for name; do crun run -d -b "/srv/bundles/$name" "$name" </dev/null >/dev/null 2>>/var/log/crun.log; done
for name; do crun state "$name" | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p'; done
"""
_DELETE = """
for name; do crun delete --force "$name" 2>>/var/log/crun.log; rm -r "/srv/bundles/$name"; done
"""


class GpuLab:
    """An entered host.

    Attributes:
        inside: runs commands in the host.
        values: what NVML answers.
        fake: the fake host, whose kernel side may be changed.
    """

    def __init__(self, inside: Inside, values: NvmlValues, fake: FakeHost) -> None:
        self.inside = inside
        self.values = values
        self.fake = fake
        self._configuration: dict[str, Any] = {}

    def cdi_gen(self, *words: str) -> str:
        """Run cdi-gen; return what it prints."""
        return self.inside.run([*packages.CDI_GEN, *words], env=ENVIRONMENT).stdout

    def start_service(self, *options: str, interval: str = "15s") -> Started:
        """Start `cdi-gen metrics`."""
        words = ("metrics", "--listen", ADDRESS, "--interval", interval, *options)
        return self.inside.start(
            [*packages.CDI_GEN, *words], log="/var/log/metrics.log", env=ENVIRONMENT
        )

    def probe(self, *words: str, timeout: float = 600) -> dict[str, Any]:
        """Run ``service_probe.py`` in the host; return its answer."""
        command = ["/usr/bin/python3", "-I", "/srv/probe.py", *words]
        answer: dict[str, Any] = json.loads(self.inside.run(command, timeout=timeout).stdout)
        return answer

    def run(
        self,
        containers: Mapping[str, Sequence[Node]],
        *,
        refused: Mapping[str, Sequence[Node]] | None = None,
    ) -> dict[str, int]:
        """Start containers of crun; return the numbers of their first processes.

        Args:
            containers: the device nodes of each: name in /dev, major and minor number.
            refused: the nodes that a container also has and cannot open.
        """
        names = [*containers]
        self.write_bundles(containers, refused=refused)
        started = self.inside.run(["sh", "-c", _START, "sh", *names], timeout=600)
        pids = [int(line) for line in started.stdout.split()]
        if len(pids) != len(names):
            raise RuntimeError(self.inside.read("/var/log/crun.log")[-2000:])
        return dict(zip(names, pids, strict=True))

    def write_bundles(
        self,
        containers: Mapping[str, Sequence[Node]],
        *,
        refused: Mapping[str, Sequence[Node]] | None = None,
    ) -> list[str]:
        """Write the bundles of containers, see `run`; return their directories."""
        bundles = {
            name: self._bundle(nodes, (refused or {}).get(name, ()))
            for name, nodes in containers.items()
        }
        self.inside.run(["python3", "-c", _WRITE_BUNDLES], stdin=json.dumps(bundles))
        return [f"/srv/bundles/{name}" for name in containers]

    def delete(self, *names: str) -> None:
        """End containers."""
        self.inside.run(["sh", "-c", _DELETE, "sh", *names], timeout=600)

    def _bundle(self, nodes: Sequence[Node], refused: Sequence[Node]) -> dict[str, Any]:
        if not self._configuration:
            script = "cd /tmp && rm -f config.json && crun spec && cat config.json"
            configuration = json.loads(self.inside.run(["sh", "-ec", script]).stdout)
            configuration["process"] |= {"terminal": False, "args": ["/usr/bin/sleep", "100000"]}
            configuration["process"].pop("rlimits", None)
            configuration["root"] = {"path": "/srv/rootfs", "readonly": True}
            self._configuration = configuration
        devices = [*map(_device, (("nvidiactl", 195, 255), *nodes))]
        allowed = [
            {"allow": True, "access": "rw"}
            | {key: device[key] for key in ("type", "major", "minor")}
            for device in devices
        ]
        devices += map(_device, refused)
        rules = [{"allow": False, "access": "rwm"}, *allowed]
        linux = self._configuration["linux"] | {"devices": devices, "resources": {"devices": rules}}
        return self._configuration | {"linux": linux}

    def nodes(self) -> dict[str, list[Node]]:
        """Return the device nodes of GPUs and MIG devices by the name in the spec."""
        spec = json.loads(self.cdi_gen("generate", "--format", "json", "--hooks=none"))
        return {
            device["name"]: [
                (node["path"].removeprefix("/dev/"), node["major"], node.get("minor", 0))
                for node in device["containerEdits"]["deviceNodes"]
                if "/dev/dri" not in node["path"]
            ]
            for device in spec["devices"]
            if device["name"].replace(":", "").isdecimal()
        }


def _device(node: Node) -> dict[str, Any]:
    name, major, minor = node
    return {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666}


@contextlib.contextmanager
def enter(fake: FakeHost, folder: Path) -> Iterator[GpuLab]:
    """Enter a fake host of the test's own.

    Args:
        fake: the host.
        folder: an empty folder.

    Raises:
        LabUnavailableError: this machine cannot have the lab.
    """
    shown = folder / "nvml"
    shown.mkdir()
    values = NvmlValues(shown / "libnvidia-ml.so")
    values.write()
    furniture = gpu_host.furniture(fake)
    furniture["binds"] |= {_VALUES: shown, "/srv/probe.py": service_probe.PROBE}
    furniture["binds"] |= {"/srv/churn_probe.py": churn_probe.PROBE}
    with Lab(SUITE).enter(**furniture, cgroup="v2") as inside:
        inside.run(["sh", "-ec", _ROOT])
        lab = GpuLab(inside, values, fake)
        lab.probe("loopback")
        yield lab
