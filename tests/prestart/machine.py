# SPDX-License-Identifier: Apache-2.0
"""A container that asks for a GPU by its environment, and an engine that adds NVIDIA's prestart hook.

The host's driver and nodes are the test's own, in a spec of the test's own; the runtime, namespaces,
control groups and mounts are real. Nothing of the machine but the test's folder can be written to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.attack import oracles
from tests.hook.conftest import HOOKS, Container
from tests.hook.runtimes import ENVIRONMENT, in_a_user_namespace

LIBRARIES = "/usr/lib/odd"
LIBRARY = f"{LIBRARIES}/libcuda.so.550.1"
NODES = {"nvidia0": (195, 0), "nvidia1": (195, 1), "nvidiactl": (195, 255), "caps/cap1": (237, 1)}
"""No driver need stand behind them: one that may be opened says ENXIO then, else EPERM."""

NO_DEVICE, DENIED, ABSENT = "No such device or address", "Operation not permitted", "no such file"


class Ended:
    """Exit status and output of a container and its runtime."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.status = process.returncode
        self.stdout = process.stdout
        self.stderr = process.stderr

    def __repr__(self) -> str:
        return f"exit {self.status}: {self.stdout!r} {self.stderr!r}"


class Machine(Container):
    """A bundle, the driver and the spec beside it, and how it is run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.driver = folder / "driver"
        self.devices = folder / "devices"
        self.specs = folder / "cdi"
        self.image: dict[str, Any] = {}
        """What the image held at first: `oracles.fingerprint`."""
        self.settings = folder / "config.toml"
        for path in (self.driver / "firmware", self.devices, self.specs):
            path.mkdir(parents=True)
        (self.driver / "firmware/gsp.bin").write_text("gsp")
        self.program = str(HOOKS / "cdi-gen-runtime-hook")
        self.words: list[str] = []
        self.mode, self.group = "666", 0
        self.edits = self._edits()
        self.spec = self._config()
        self.configure()
        self.prints = oracles.fingerprint(self.canary)

    def _config(self) -> dict[str, Any]:
        busybox = shutil.which("busybox")
        if not busybox or not shutil.which("runc"):
            pytest.skip("needs a static busybox, and runc")
        shutil.copy(busybox, self.root / "bin/busybox")
        (self.bundle / "config.json").unlink()
        subprocess.run(["runc", "spec"], cwd=self.bundle, check=True)
        spec: dict[str, Any] = json.loads((self.bundle / "config.json").read_text())
        spec["process"] |= {"terminal": False, "env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all"]}
        spec["process"].pop("rlimits", None)
        spec["root"]["readonly"] = False
        namespaces = spec["linux"]["namespaces"]
        spec["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] != "cgroup"]
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "cgroup"]
        return spec

    def _edits(self) -> dict[str, Any]:
        """Of all devices."""
        options = ["ro", "nosuid", "nodev", "rbind", "rprivate"]
        words = ("--link", f"libcuda.so.550.1::{LIBRARIES}/libcuda.so.1", "--folder", LIBRARIES)
        environment = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [self.node("nvidiactl"), self.node("caps/cap1", fileMode=0o440)],
            "mounts": [
                {
                    "hostPath": str(self.driver / "libcuda.so.550.1"),
                    "containerPath": LIBRARY,
                    "options": options,
                },
                {
                    "hostPath": str(self.driver / "firmware"),
                    "containerPath": "/usr/firmware/550",
                    "options": [*options, "noexec"],
                },
            ],
            "hooks": [
                {
                    "hookName": "createContainer",
                    "path": str(HOOKS / "cdi-gen-hook"),
                    "args": ["cdi-gen-hook", "create-container", *words],
                    "env": environment,
                    "timeout": 30,
                }
            ],
        }

    def node(self, name: str, **more: object) -> dict[str, object]:
        """The edit that brings one of the host's nodes."""
        return {
            "path": f"/dev/{name}",
            "hostPath": str(self.devices / name),
            "permissions": "rw",
            **more,
        }

    def fingerprint(self) -> oracles.Prints:
        """The sentinel as it is now."""
        return oracles.fingerprint(self.canary)

    def configure(self, *lines: str) -> None:
        """Write config.toml, with more lines for the section of nvidia-container-cli."""
        self.settings.write_text(
            "\n".join(("[nvidia-container-cli]", *lines))
            + f'\n[nvidia-container-runtime]\nmode = "cdi"\n'
            f'[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["{self.specs}"]\n'
        )

    def asks(self, *variables: str) -> None:
        """Have the container say so in its environment, and nothing else."""
        self.spec["process"]["env"] = ["PATH=/bin", *variables]

    def with_a_user_namespace(self) -> None:
        """User 100000 of the machine is the container's root; the driver stays the machine's."""
        in_a_user_namespace(self, 65536)

    def write_down(self) -> None:
        """The spec, and the bundle's configuration with the hook as dockerd writes it."""
        one, two = ({"deviceNodes": [self.node(name)]} for name in ("nvidia0", "nvidia1"))
        devices = {
            "0": one,
            "1": two,
            "all": {"deviceNodes": one["deviceNodes"] + two["deviceNodes"]},
            "none": {"env": ["NVIDIA_NONE=1"]},
        }
        document = {
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": [{"name": name, "containerEdits": edits} for name, edits in devices.items()],
            "containerEdits": self.edits,
        }
        (self.specs / "nvidia.json").write_text(json.dumps(document))
        hook = {
            "path": self.program,
            "args": [
                "nvidia-container-runtime-hook",
                "-config",
                str(self.settings),
                *self.words,
                "prestart",
            ],
            # dockerd gives the hook its own environment.
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH=/x", "HOME=/root"],
        }
        self.spec["hooks"] = {"prestart": [hook]}
        (self.bundle / "config.json").write_text(json.dumps(self.spec))

    def run(self, engine: Engine, script: str = "true") -> Ended:
        """Start the container, have its shell do something, and ask what must hold for all."""
        self.spec["process"]["args"] = ["/bin/busybox", "sh", "-c", script]
        self.write_down()
        command = engine.command(self)
        with oracles.adopting() as orphans:
            ended = Ended(
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    check=False,
                    timeout=60,
                )
            )
            orphans.none_left()
        oracles.sentinel(self.prints, oracles.fingerprint(self.canary))
        oracles.same_mounts(
            (self.folder / "mounts-before").read_text(), (self.folder / "mounts-after").read_text()
        )
        assert "Traceback" not in ended.stderr
        assert "internal error" not in ended.stderr
        assert len(ended.stderr) < oracles.MAX_SAID
        return ended

    def started(self, engine: Engine, script: str = "true") -> str:
        """Run a container that must start; return the output of its shell, errors included."""
        ended = self.run(engine, f"exec 2>&1; {script}; true")
        assert (ended.status, ended.stderr) == (0, ""), ended
        return ended.stdout

    def refused(self, engine: Engine, reason: str) -> None:
        """The same, of one that must not start, and for this reason."""
        ended = self.run(engine, "echo started")
        assert ended.status != 0
        assert "started" not in ended.stdout
        # crun sends what a hook says to /dev/null.
        if engine.name == "runc":
            assert reason in ended.stderr
            assert ended.stderr.count("cdi-gen-runtime-hook: ") == 1, ended.stderr

    def opens(self, engine: Engine, *names: str) -> dict[str, str]:
        """What the container's shell is told when it opens nodes."""
        output = self.started(engine, "; ".join(f"echo {n}; cat </dev/{n}" for n in names))
        contents: dict[str, str] = {}
        for line in output.splitlines():
            if line in names:
                contents[line] = ""
            else:
                contents[[*contents][-1]] += line
        return {name: _short(line) for name, line in contents.items()}


class Engine:
    """A runtime, and the control groups that it is to find."""

    def __init__(self, name: str, groups: str) -> None:
        self.name = name
        self.groups = groups
        if not shutil.which(name):
            pytest.skip(f"needs {name}")
        if groups == "v1" and ":devices:" not in Path("/proc/self/cgroup").read_text():
            pytest.skip("this machine has no devices controller of version 1")

    def command(self, machine: Machine) -> list[str]:
        """A mount namespace with shared mounts, as systemd sets it up."""
        folder = machine.folder
        makes = [
            f"mkdir -p {(machine.devices / name).parent}; "
            f"mknod -m {machine.mode} {machine.devices / name} c {major} {minor}; "
            f"chgrp {machine.group} {machine.devices / name}"
            for name, (major, minor) in NODES.items()
        ]
        lines = [
            f"mount --bind {folder} {folder}",
            # A mount of its own: runc makes the one that the image lies in a private one.
            f"mount --bind {machine.canary} {machine.canary}",
            f"mount -t tmpfs -o mode=755 none {machine.devices}",
            *makes,
            "mount -o remount,bind,ro /",
            "mount --make-rshared /",
        ]
        words = [self.name]
        if self.groups != "v1":
            # crun refuses a tree of both versions, and runc takes it for version 1.
            lines.append("umount -l -R /sys/fs/cgroup 2>&-")
            lines.append("mount -t cgroup2 none /sys/fs/cgroup")
        if self.groups == "none":
            words.append("--cgroup-manager=disabled")
        words += ["--root", f"{folder}/state", "run", "--bundle", str(machine.bundle)]
        words.append(f"t{os.getpid()}")
        table = f"cat /proc/self/mountinfo >{folder}/mounts"
        lines += [
            f"{table}-before",
            'status=0; "$@" || status=$?',
            f"{table}-after",
            "exit $status",
        ]
        return ["unshare", "-m", "sh", "-ec", "\n".join(lines), "sh", *words]


def _short(line: str) -> str:
    for text in (NO_DEVICE, DENIED, ABSENT):
        if text.lower() in line.lower():
            return text
    return line
