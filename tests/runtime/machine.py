# SPDX-License-Identifier: Apache-2.0
"""A machine with a fake GPU, the shim installed on it, and bundles to start there.

The machine is a mount namespace: the kernel's side of a fake host over /proc, a /run of its own. The
driver is at another root, as with the GPU operator, which config.toml names.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fakehost.gpus import Gpu
from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY, SOURCES

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

Ended = subprocess.CompletedProcess[str]


SPEC: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {"name": "0", "containerEdits": {"env": ["GPU=0"]}},
        {"name": "GPU-ab100000-c0de-4000-8000-000000001000", "containerEdits": {"env": ["GPU=u"]}},
        {"name": "all", "containerEdits": {"env": ["GPU=all"]}},
    ],
    "containerEdits": {"env": ["FROM_SPEC=1", "NVIDIA_VISIBLE_DEVICES=void"]},
}


class Machine:
    """A machine as an engine sees it: a program to start as the OCI runtime.

    Without a fake host it has no GPU, and the spec directory that config.toml names is all there is.
    """

    def __init__(self, folder: Path, fake: FakeHost | None = None) -> None:
        self.folder = folder
        self.fake = fake
        self.installed = folder / "libexec/cdi-gen"
        self.shim = self.installed / "cdi-gen-runtime"
        self.settings = folder / "config.toml"
        self.specs = folder / "cdi"
        self.specs.mkdir()
        self.run_folder = folder / "run"
        self.run_folder.mkdir()
        self.log = folder / "runtime.log"
        self._install()
        self.configure()

    def _install(self) -> None:
        hooks = REPOSITORY / "hooks"
        shutil.copytree(hooks, self.installed, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        compileall.compile_dir(self.installed, quiet=1)
        generator = self.folder / "bin/cdi-gen"
        generator.parent.mkdir()
        generator.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {self.folder}/prepared\n'
            f'PYTHONPATH={SOURCES} exec {sys.executable} -W ignore -m cdi_gen "$@"\n'
        )
        generator.chmod(0o755)
        (self.installed / "generator").write_text(f"{generator}\n")

    def configure(self, text: str = "", *, runtime: str = "", log: Path | None = None) -> None:
        """Write config.toml with more top-level keys, and more keys of nvidia-container-runtime."""
        self.settings.write_text(
            f"""{text}
[nvidia-container-cli]
root = "{self.fake.root if self.fake else ""}"
[nvidia-container-runtime]
debug = "{log or self.log}"
log-level = "debug"
{runtime}
[nvidia-container-runtime.modes.cdi]
spec-dirs = ["{self.specs}"]
"""
        )

    @property
    def host_root(self) -> Path:
        """The root of the fake host, if there is one."""
        assert self.fake
        return self.fake.root

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs of the fake host."""
        assert self.fake
        return self.fake.host.gpus

    def times_prepared(self) -> int:
        """How often the shim has started cdi-gen."""
        noted = self.folder / "prepared"
        return len(noted.read_text().splitlines()) if noted.exists() else 0

    def logged(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def defines(self, spec: dict[str, Any], name: str = "nvidia.json") -> Path:
        """Write a spec to the spec directory."""
        place = self.specs / name
        place.write_text(json.dumps(spec))
        return place

    def command(self, within: str = "") -> list[str]:
        """What runs the words after it on the machine; a line of shell goes before them."""
        binds = []
        if self.fake:
            proc = self.fake.root / "proc"
            binds = [f"mount --bind {proc}/{name} /proc/{name}" for name in ("driver", "devices")]
        script = f"""
            {"; ".join(binds)}
            mount --bind {self.run_folder} /run
            {within}
            exec "$@"
        """
        return ["unshare", "-m", "sh", "-ec", script, "sh"]

    def run(self, *words: str, within: str = "", **how: Any) -> Ended:
        """Run a command on it.

        Args:
            words: the command.
            within: a line of shell before it.
            how: to `subprocess.run`.
        """
        environment = ENVIRONMENT | {"NVIDIA_CTK_CONFIG_FILE_PATH": str(self.settings)}
        options: dict[str, Any] = {"env": environment, "timeout": 60, "stdin": subprocess.DEVNULL}
        return subprocess.run(
            [*self.command(within), *words],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            **(options | how),
        )


class Bundle:
    """A bundle of a container with busybox."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.root = folder / "rootfs"
        for name in ("bin", "dev", "proc", "sys", "etc", "usr/lib", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(str(shutil.which("busybox")), self.root / "bin/busybox")
        (self.root / "bin/sh").symlink_to("busybox")
        self.config: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/sh", "-c", "true"],
                "env": ["PATH=/bin:/usr/bin"],
                "cwd": "/",
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "mode=755"],
                },
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            },
        }
        self.write()

    @property
    def file(self) -> Path:
        return self.path / "config.json"

    def asks(self, *variables: str, script: str = "true") -> Bundle:
        """Give the container these variables, and something to do."""
        self.config["process"]["env"] = ["PATH=/bin:/usr/bin", *variables]
        self.config["process"]["args"] = ["/bin/sh", "-c", script]
        self.write()
        return self

    def write(self) -> None:
        self.file.write_text(json.dumps(self.config))

    def edited(self) -> dict[str, Any]:
        """Return the current config.json."""
        config: dict[str, Any] = json.loads(self.file.read_text())
        return config

    def devices(self) -> list[str]:
        return [device["path"] for device in self.edited()["linux"].get("devices", [])]

    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.edited()["process"]["env"])


FAKE_RUNTIME = """#!/bin/sh
echo "$0 $*" >> {log}
"""


def note_calls(folder: Path, name: str = "runc") -> Path:
    """A runtime that only records its arguments."""
    program = folder / name
    log = folder / f"{name}.calls"
    program.write_text(FAKE_RUNTIME.format(log=log))
    program.chmod(0o755)
    return log


def as_root() -> bool:
    return os.geteuid() == 0
