# SPDX-License-Identifier: Apache-2.0
"""A node whose GPUs are shared by MPS, with a stand-in for NVIDIA's control program or the real one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_base.findings import Finding
from cdi_gen.inventory import DriverFile, Inventory
from cdi_gen.kubernetes import reports
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.mps import daemons as daemons_module
from cdi_gen.kubernetes.mps import keeper, program
from cdi_gen.kubernetes.mps.daemons import MpsDaemons
from cdi_gen.kubernetes.mps.directories import MpsRoot
from cdi_gen.kubernetes.mps.errors import SilentDaemonError
from cdi_gen.kubernetes.mps.program import control_program
from cdi_gen.kubernetes.plugin.observer import Observers
from cdi_gen.kubernetes.resources.advertise import advertise
from cdi_gen.kubernetes.resources.device import Resource
from cdi_gen.kubernetes.settings import DEFAULTS, Settings, SharedResource, Sharing
from cdi_gen.paths import ContainerPath, HostPath
from tests.fakehost.hosts import FakeHost
from tests.kubernetes.kubelet import wait_until
from tests.unit.kubernetes.nodes import inventory, properties

HGX = inventory("hgx-550-8gpu")
UUIDS = [gpu.uuid or "" for gpu in HGX.gpus]
GPU = "nvidia.com/gpu"
PROCESS = MpsRoot.process


def with_programs(control: str, server: str = "") -> Inventory:
    """Return an inventory with these programs."""
    names = {program.CONTROL: control, program.SERVER: server or control}
    files = tuple(
        DriverFile(path=HostPath(path), seen_at=ContainerPath(path), entry=name)
        for name, path in names.items()
        if path
    )
    return replace(HGX, files=files, libraries=())


class Recorder(Observers):
    """Keeps the changes of health."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []

    def health_changed(self, change: Change) -> None:
        self.changes.append(change)


class MpsNode:
    """The daemons of a node with a control program."""

    def __init__(self, folder: Path, host: Inventory) -> None:
        self.folder = folder
        self.host = host
        self.root = MpsRoot(str(folder / "mps"))
        self.findings: list[Finding] = []
        self.observer = Recorder()
        self.running: list[MpsDaemons] = []
        self.settings = self.shared()

    def shared(self, devices: int = 2, replicas: int = 4, **options: object) -> Settings:
        resource = SharedResource(name=GPU, replicas=replicas, devices=devices)
        fields = {"strategy": "mps", "resources": (resource,)} | options
        fields.setdefault("fail_requests_greater_than_one", True)
        sharing = Sharing(**fields)  # type: ignore[arg-type]
        return replace(DEFAULTS, mps_root=self.root.path, sharing=sharing)

    def start(self, settings: Settings | None = None, *, starts: bool = True) -> MpsDaemons:
        mps = MpsDaemons(self.root, self.findings.append, self.observer, starts=starts)
        self.running.append(mps)
        mps.want(self.resources(settings or self.settings), self.host, lambda: None)
        return mps

    def resources(self, settings: Settings) -> tuple[Resource, ...]:
        return advertise(self.host, properties(self.host), settings).resources

    def serving(self, settings: Settings | None = None) -> MpsDaemons:
        mps = self.start(settings)
        wait_until(lambda: not mps.unusable())
        return mps

    def pid(self, name: str) -> int:
        pid = PROCESS(self.root, name)
        assert pid > 0, "a signal to process 0 is one to the process group of the test"
        return pid

    def ask(self, name: str, command: str, part: str = "pipe") -> str:
        """Return the daemon's answer; on a busy machine it refuses a command now and then."""
        control = control_program(self.host, "/", "")
        answers: list[str] = []

        def is_answered() -> bool:
            with contextlib.suppress(SilentDaemonError):
                environment = {"CUDA_MPS_PIPE_DIRECTORY": f"{self.root.path}/{name}/{part}"}
                answers.append(control.ask(environment, command))
            return bool(answers)

        wait_until(is_answered)
        return answers[0]

    def codes(self) -> list[str]:
        return [finding.code for finding in self.findings]

    def messages(self, code: str) -> list[str]:
        return [finding.message for finding in self.findings if finding.code == code]

    def behave(self, *words: str) -> None:
        (self.folder / "behaviour").write_text(" ".join(words), "utf-8")

    def end(self) -> None:
        for mps in self.running:
            mps.stop()
        for name in self.root.names():
            with contextlib.suppress(SilentDaemonError, ProcessLookupError):
                os.kill(self.pid(name), signal.SIGKILL)
        reap()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a short path that only root can change."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="mps-") as path:
        yield Path(path)
    reap()


def reap() -> None:
    """Wait for the daemons that a test has ended: other tests expect that there is no child."""
    deadline = time.monotonic() + 60
    while True:
        try:
            child, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            assert time.monotonic() < deadline, "a daemon goes on"
            time.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "PAUSES", (0.05,))
    monkeypatch.setattr(keeper, "ASK_INTERVAL", 0.2)
    monkeypatch.setattr(daemons_module, "RETIRE_INTERVAL", 0.2)


def own_program(folder: Path) -> str:
    copy = folder / program.CONTROL
    source = Path(__file__).with_name("mps_program.py").read_text("utf-8")
    copy.write_text(f"#!{sys.executable} -IS\n{source}", "utf-8")
    copy.chmod(0o755)
    return str(copy)


@pytest.fixture
def stand_in(folder: Path, quick: None) -> Iterator[MpsNode]:
    node = MpsNode(folder, with_programs(own_program(folder)))
    yield node
    node.end()


@pytest.fixture(params=["stand-in", "driver 550"])
def node(
    request: pytest.FixtureRequest, folder: Path, quick: None, host: Callable[[str], FakeHost]
) -> Iterator[MpsNode]:
    if request.param == "stand-in":
        path = own_program(folder)
    else:
        path = str(folder / program.CONTROL)
        shutil.copy(host("550-8gpu").root / "usr/bin" / program.CONTROL, path)
    node = MpsNode(folder, with_programs(path))
    yield node
    node.end()
