# SPDX-License-Identifier: Apache-2.0
"""What of a host makes `cdi-gen watch` refresh the specs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdi_base.findings import Finding
from cdi_base.host_fingerprint import Layout
from cdi_gen.service_manager import ServiceManager
from cdi_gen.waking import Waker
from cdi_gen.watch import loop as loops
from cdi_gen.watch import schedule
from cdi_gen.watch.host_state import Observer
from cdi_gen.watch.loop import Loop

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

PATIENCE = 60.0


class Host:
    """A host's root, to change."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "host"
        self.proc = self.root / "proc/driver/nvidia"
        for name in ("gpus/0000:01:00.0", "capabilities/gpu0/mig/gi1/ci0"):
            (self.proc / name).mkdir(parents=True)
        (self.proc / "version").write_text("550\n")
        for name in ("dev/nvidia-caps", "dev/dri", "etc"):
            (self.root / name).mkdir(parents=True)
        (self.root / "etc/ld.so.cache").write_text("old")
        self.node("nvidia0")

    def node(self, name: str) -> None:
        os.mknod(self.root / "dev" / name, 0o20666, os.makedev(195, 0))

    def unload(self) -> None:
        (self.proc / "version").unlink()

    def replace_instance(self) -> None:
        """Another profile with the same numbers, in less time than between two looks."""
        instance = self.proc / "capabilities/gpu0/mig/gi1"
        (instance / "ci0").rmdir()
        instance.rmdir()
        (instance / "ci0").mkdir(parents=True)

    def update_libraries(self) -> None:
        new = self.root / "etc/ld.so.cache~"
        new.write_text("new")
        new.rename(self.root / "etc/ld.so.cache")


class Refreshes:
    """Counts refreshes, and ends each as it is told."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.code = 0
        self.during: Callable[[], object] | None = None

    def run(self, is_over: Callable[[], bool]) -> int | None:
        assert not is_over()
        self.times.append(time.monotonic())
        if self.during is not None:
            action, self.during = self.during, None
            action()
        return self.code

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(self.times) < count:
            assert time.monotonic() < deadline, f"{len(self.times)} of {count} refreshes"
            time.sleep(0.01)


class Watching:
    """A loop that runs in a thread."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.refreshes = Refreshes()
        self.findings: list[Finding] = []
        observer = Observer(Layout(), str(host.root))
        self._waker = Waker(*observer.directories(), poll_seconds=loops.POLL_SECONDS)
        self._loop = Loop(
            observer, self._waker, self.refreshes, ServiceManager({}), self.findings.append
        )
        self._thread = threading.Thread(target=self._loop.run)

    def start(self) -> None:
        self._thread.start()
        self.refreshes.wait_for(1)

    def stop(self) -> None:
        self._loop.stop()
        self._thread.join(PATIENCE)
        self._waker.close()
        assert not self._thread.is_alive()


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    host = Host(tmp_path)
    monkeypatch.setattr(loops, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(schedule, "SETTLE_SECONDS", 0.1)
    watching = Watching(host)
    yield watching
    watching.stop()


CHANGES: dict[str, tuple[Callable[[Host], object], str]] = {
    "another driver": (lambda host: (host.proc / "version").write_text("570\n"), "the driver"),
    "no driver": (Host.unload, "the driver"),
    "a GPU more": (lambda host: (host.proc / "gpus/0000:02:00.0").mkdir(), "the GPUs"),
    "a GPU less": (lambda host: (host.proc / "gpus/0000:01:00.0").rmdir(), "the GPUs"),
    "MIG devices": (
        lambda host: (host.proc / "capabilities/gpu0/mig/gi2").mkdir(),
        "the MIG devices",
    ),
    "a MIG device with the numbers of another": (Host.replace_instance, "the MIG devices"),
    "a node made late": (lambda host: host.node("nvidia-uvm"), "the device nodes"),
    "a capability made late": (
        lambda host: host.node("nvidia-caps/nvidia-cap1"),
        "the device nodes",
    ),
    "a driver package": (Host.update_libraries, "the libraries"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_the_host_leads_to_a_refresh(watching: Watching, change: str) -> None:
    watching.start()
    action, name = CHANGES[change]
    action(watching.host)
    watching.refreshes.wait_for(2)
    watching.stop()
    # On a busy machine a change of several steps may be seen as several changes.
    assert {finding.message for finding in watching.findings} == {f"the host has changed: {name}"}


def test_a_change_during_a_refresh_leads_to_another_one(watching: Watching) -> None:
    watching.refreshes.during = lambda: watching.host.node("nvidia-uvm")
    watching.start()
    watching.refreshes.wait_for(2)


def test_many_changes_lead_to_one_refresh(watching: Watching) -> None:
    watching.start()
    for number in range(50):
        watching.host.node(f"nvidia-caps/nvidia-cap{number}")
    watching.refreshes.wait_for(2)
    watching.stop()
    assert len(watching.refreshes.times) < 25, "50 nodes of one reconfiguration"


def test_a_failure_is_tried_again(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "PAUSES", (0.1,))
    watching.refreshes.code = 1
    watching.start()
    watching.refreshes.wait_for(3)
    assert watching.findings[0].code == "CDG-W101"


def test_no_file_stays_open(watching: Watching) -> None:
    """A file of the driver that is open keeps the module from being unloaded."""
    watching.start()
    watching.host.node("nvidia-uvm")
    watching.refreshes.wait_for(2)
    watching.stop()
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    targets = [os.readlink(link) for link in links if link.is_symlink()]
    assert not [target for target in targets if str(watching.host.root) in target]
