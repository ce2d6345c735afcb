# SPDX-License-Identifier: Apache-2.0
"""Real OCI runtimes, and a bundle as an engine makes it of an image and of a generated spec."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.attack import oracles
from tests.attack.victim import Attempt, Victim
from tests.hook import runtimes
from tests.hook.runtimes import hook_of

DEVICES = {"/dev/nvidia0": (195, 0), "/dev/nvidiactl": (195, 255)}


class Runtime(runtimes.Runtime):
    """One OCI runtime, on a machine whose mounts tell each other everything, as systemd has it."""

    def gives_the_images_environment(self) -> bool:
        """runc before 1.3 has a hook without `env` run with the image's (CVE-2025-23266)."""
        said = subprocess.run([self.name, "--version"], capture_output=True, text=True, check=True)
        version = said.stdout.split()[2]
        return self.name == "runc" and tuple(map(int, version.split(".")[:2])) < (1, 3)

    def command(self, bundle: Path) -> list[str]:
        """In a mount namespace of its own; its mount table is written down before and after."""
        words = [self.name]
        here = bundle.parent
        script = f"mount --bind {here} {here}; mount -o remount,bind,ro /; mount --make-rshared /; "
        if self.name == "crun":
            words.append("--cgroup-manager=disabled")
            # crun refuses a tree of cgroups of both versions.
            script += "umount -l -R /sys/fs/cgroup 2>&-; mount -t cgroup2 none /sys/fs/cgroup; "
        words += ["--root", f"{bundle}/state", "run", "--bundle", str(bundle), f"t{os.getpid()}"]
        table = f"cat /proc/self/mountinfo > {bundle}/mounts"
        script += f'{table}-before; status=0; "$@" || status=$?; {table}-after; exit $status'
        return ["unshare", "-m", "sh", "-c", script, "sh", *words]


class Bundle:
    """A container of a hostile image, its hook the whole one of a generated spec."""

    def __init__(self, victim: Victim, runtime: Runtime) -> None:
        self.victim = victim
        self.runtime = runtime
        busybox = shutil.which("busybox")
        if not busybox:
            pytest.skip("needs a static busybox")
        (victim.root / "bin").mkdir(exist_ok=True)
        shutil.copy(busybox, victim.root / "bin/busybox")
        self.library = victim.bundle / "driver/libcuda.so.550.1"
        self.library.parent.mkdir()
        shutil.move(victim.root / "opt/odd/libcuda.so.550.1", self.library)
        (victim.bundle / "config.json").unlink()
        subprocess.run(["runc", "spec"], cwd=victim.bundle, check=True)
        self.spec: dict[str, Any] = json.loads((victim.bundle / "config.json").read_text())
        self._without_what_is_not_here()
        self._with_containers_edits()

    def _without_what_is_not_here(self) -> None:
        spec = self.spec
        spec["process"] |= {"terminal": False}
        spec["process"].pop("rlimits", None)
        spec["root"]["readonly"] = False
        spec["linux"].pop("resources", None)
        spec["linux"]["namespaces"] = [
            each for each in spec["linux"]["namespaces"] if each["type"] != "cgroup"
        ]
        spec["mounts"] = [each for each in spec["mounts"] if each["type"] != "cgroup"]

    def _with_containers_edits(self) -> None:
        self.mount("/opt/odd/libcuda.so.550.1", self.library, "ro", "nosuid", "nodev")
        self.spec["linux"]["devices"] = [
            {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
            for path, (major, minor) in DEVICES.items()
        ]
        self.spec["hooks"] = {"createContainer": [hook_of(self.victim, *Victim.FULL)]}

    @property
    def hook(self) -> dict[str, Any]:
        """The hook's entry, to change."""
        found: dict[str, Any] = self.spec["hooks"]["createContainer"][0]
        return found

    def mount(self, destination: str, source: Path | str, *options: str) -> None:
        """Bind something of the host; private unless another propagation is among the options."""
        options = ("rbind", *options)
        if not {"rshared", "rslave"} & set(options):
            options += ("rprivate",)
        self.spec["mounts"].append(
            {"destination": destination, "type": "bind", "source": str(source), "options": options}
        )

    def run(self, script: str = "true", *, patience: float = 60) -> Attempt:
        """Start the container, have its shell do something, and gather what the oracles ask for."""
        victim = self.victim
        self.spec["process"]["args"] = ["/bin/busybox", "sh", "-c", script]
        (victim.bundle / "config.json").write_text(json.dumps(self.spec))
        attempt = Attempt(victim)
        machine = victim.mounts_of_the_machine()
        begun = time.monotonic()
        with oracles.adopting() as orphans:
            ended = subprocess.run(
                self.runtime.command(victim.bundle),
                # A pipe: crun gives its streams to the root of a user namespace, also /dev/null.
                input="",
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=patience,
            )
            orphans.none_left()
        attempt.seconds = time.monotonic() - begun
        attempt.status = ended.returncode
        attempt.stdout = ended.stdout
        # A runtime tells of a hook's last words in a line of its own.
        attempt.said = ended.stderr
        oracles.same_mounts(machine, victim.mounts_of_the_machine())
        oracles.same_mounts(
            (victim.bundle / "mounts-before").read_text(),
            (victim.bundle / "mounts-after").read_text(),
        )
        oracles.sentinel(victim.prints, oracles.fingerprint(victim.canary))
        oracles.in_time(attempt.seconds, patience)
        assert len(attempt.said) < oracles.MAX_SAID, attempt.said
        assert "Traceback" not in attempt.said
        return attempt

    def started(self, script: str = "true") -> str:
        """The same, of a container that must start; gives what its shell said."""
        attempt = self.run(script)
        assert (attempt.status, attempt.said) == (0, ""), attempt
        return attempt.stdout
