# SPDX-License-Identifier: Apache-2.0
"""One program in one container: a bundle, its edits by ``cdi-gen inject``, runc or crun."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.gpu.programs.machine import Root
from tests.gpu.programs.programs import ABSENT, Program

CHECKOUT = Path(__file__).resolve().parents[3]
INSIDE = Path(__file__).with_name("inside")

LEFT_OUT = 4
"""cdi-gen's exit code where a device or a file was left out of what it made."""

# What Docker gives to every container.
CAPABILITIES = (
    *("CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL"),
    *("CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID"),
    *("CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"),
)

PASSED, FAILED, NOT_THERE, TIMED_OUT = "passed", "FAILED", "not in this root", "TIMED OUT"


class Form(NamedTuple):
    """A way to give the driver to the container: one column."""

    title: str
    specs: Path | None
    """A directory of CDI specs; None: a container without a device."""
    lacking: str = ""
    """Why there is no such spec here."""


class Outcome(NamedTuple):
    """What became of a program."""

    verdict: str
    seconds: float
    output: str


class Runner(NamedTuple):
    """How containers are run on this machine."""

    runtime: Sequence[str]
    """runc or crun, with its global options."""
    root: Root
    folder: Path
    """In memory; each container has a folder of its own below."""
    device: str
    environment: Mapping[str, str]

    def run(self, program: Program, form: Form) -> Outcome:
        """Run a program; whatever goes wrong is an outcome too."""
        if form.lacking:
            return Outcome(form.lacking, 0, "")
        name = re.sub("[^a-z0-9]+", "-", f"{program.name} {form.title}".lower()).strip("-")
        bundle = self.folder / name
        begun = time.monotonic()
        try:
            self._prepare(bundle, program, form)
        except (OSError, subprocess.CalledProcessError) as error:
            return Outcome(FAILED, time.monotonic() - begun, f"no container: {error}\n")
        begun = time.monotonic()
        try:
            status, output = self._end_of(bundle, f"cdi-gen-{os.getpid()}-{name}", program.seconds)
        finally:
            subprocess.run(["umount", "--lazy", str(bundle / "rootfs")], check=False)
            shutil.rmtree(bundle / "upper", ignore_errors=True)
        return Outcome(_verdict(program, status, output), time.monotonic() - begun, output)

    def _prepare(self, bundle: Path, program: Program, form: Form) -> None:
        rootfs = self.root.overlay(bundle)
        for name in ("inside", "gpu", "proc", "sys", "dev", "run", "tmp"):
            (rootfs / name).mkdir(exist_ok=True)
        text = json.dumps(configuration(program, self.root.volumes, self.environment))
        (bundle / "config.json").write_text(text, encoding="utf-8")
        if form.specs:
            where = ["--spec-dir", str(form.specs), "--device", self.device]
            cdi_gen("inject", *where, "--in-place", str(bundle))

    def _end_of(self, bundle: Path, name: str, seconds: int) -> tuple[int | None, str]:
        """Its exit status, None for one that had to be killed; and what it said."""
        runtime = [*self.runtime, "--root", str(self.folder / "state")]
        log = bundle / "output"
        with log.open("wb") as output:
            container = subprocess.Popen(
                [*runtime, "run", "--bundle", str(bundle), name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                status: int | None = container.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
                subprocess.run([*runtime, "kill", name, "KILL"], capture_output=True, check=False)
                time.sleep(1)
                container.kill()
                container.wait()
        subprocess.run([*runtime, "delete", "--force", name], capture_output=True, check=False)
        return status, log.read_text(encoding="utf-8", errors="replace")


def cdi_gen_environment() -> dict[str, str]:
    """Return the environment in which ``python -m cdi_gen`` is this checkout's."""
    path = os.pathsep.join(str(CHECKOUT / name) for name in (".", "hooks", "specs"))
    inherited = os.environ.get("PYTHONPATH")
    path += os.pathsep + inherited if inherited else ""
    return {**os.environ, "PYTHONPATH": path}


def cdi_gen(*words: str) -> str:
    """Run this checkout's cdi-gen; what it printed.

    Raises:
        OSError: it failed, in its own words. A device that was left out is no failure.
    """
    done = subprocess.run(
        [sys.executable, "-m", "cdi_gen", *words],
        env=cdi_gen_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, LEFT_OUT):
        raise OSError(f"cdi-gen {words[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _verdict(program: Program, status: int | None, output: str) -> str:
    if status is None:
        return TIMED_OUT
    if status == ABSENT:
        return NOT_THERE
    if status == 0 and re.search(program.sign, output):
        return PASSED
    return FAILED if status == 0 else f"{FAILED}, exit {status}"


def configuration(
    program: Program, volumes: Sequence[str], environment: Mapping[str, str]
) -> dict[str, Any]:
    capabilities = [*CAPABILITIES, *program.capabilities]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", f"mkdir -p $HOME && cd /tmp && {{ {program.script}\n}}"],
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        "root": {"path": "rootfs"},
        "mounts": [
            _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
            _mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "nodev", "mode=1777"),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/run", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=755"),
            # Compilers put here what is run afterwards.
            _mount("/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777"),
            *(_mount(each, "bind", each, "rbind", "ro", "rprivate") for each in volumes),
            _mount("/inside", "bind", str(INSIDE), "rbind", "ro", "rprivate"),
            _mount("/gpu", "bind", str(INSIDE.parents[1]), "rbind", "ro", "rprivate"),
        ],
        # The machine's network: NCCL looks for an interface that is up.
        "linux": {
            "namespaces": [{"type": each} for each in ("pid", "mount", "ipc", "uts")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}
