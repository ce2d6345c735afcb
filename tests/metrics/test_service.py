# SPDX-License-Identifier: Apache-2.0
"""The parts of ``cdi-gen metrics`` together, when one of them hangs or fails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.metrics import service as services
from cdi_gen.metrics.loop import Loop
from cdi_gen.metrics.pages import Pages
from cdi_gen.metrics.service import Service
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.metrics.textfile import Textfile
from cdi_gen.service_manager import ServiceManager
from cdi_gen.telemetry.model import Reading
from tests.kubernetes.kubelet import wait_until
from tests.metrics.serving import PATIENCE

SNAPSHOT = Snapshot(reading=Reading(time=1.0, seconds=0.1))
INTERVAL = 0.05


class Host:
    """A service whose snapshots a test holds up or lets fail."""

    def __init__(self, folder: Path, manager: ServiceManager) -> None:
        self.path = folder / "metrics.prom"
        self.findings: list[Finding] = []
        self.may_continue = threading.Event()
        self.may_continue.set()
        self.error: Exception | None = None
        self.taken = self.reloads = 0
        pages = Pages(lambda snapshot, _: b"device 1\n" if snapshot else b"own 1\n", INTERVAL)
        textfile = Textfile(str(self.path), self.findings.append)

        def publish(snapshot: Snapshot) -> None:
            pages.publish(snapshot)
            textfile.update(pages)

        loop = Loop(self.collect, publish, INTERVAL, self.findings.append)
        self.service = Service(loop, pages, None, textfile, manager, self.reload)
        self.thread = threading.Thread(target=self.service.run, args=("works",))

    def collect(self) -> Snapshot:
        self.may_continue.wait(PATIENCE)
        self.taken += 1
        if self.error:
            raise self.error
        return SNAPSHOT

    def reload(self) -> None:
        self.reloads += 1

    def has_devices(self) -> bool:
        return self.path.exists() and b"device 1" in self.path.read_bytes()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        yield end


@pytest.fixture
def service_host(
    tmp_path: Path, notified: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    monkeypatch.setattr(services, "STEP_SECONDS", INTERVAL)
    monkeypatch.setattr(services, "GRACE_SECONDS", 0.2)
    variables = {"NOTIFY_SOCKET": notified.getsockname(), "WATCHDOG_USEC": "1000000"}
    service_host = Host(tmp_path, ServiceManager(variables))
    service_host.thread.start()
    yield service_host
    service_host.may_continue.set()
    service_host.service.stop()
    service_host.thread.join()


def messages(notified: socket.socket) -> list[str]:
    """What the service manager was told since the last call."""
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(notified.recv(4096).decode())
    return found


def test_the_service_manager_is_told_that_the_service_works(
    service_host: Host, notified: socket.socket
) -> None:
    told: list[str] = []

    def is_told() -> bool:
        told.extend(messages(notified))
        return "WATCHDOG=1" in told

    wait_until(is_told)
    assert told[0] == "READY=1\nSTATUS=works"


def test_a_service_that_hangs_gives_no_sign_of_life_and_no_devices(
    service_host: Host, notified: socket.socket
) -> None:
    wait_until(service_host.has_devices)
    service_host.may_continue.clear()
    wait_until(lambda: not service_host.has_devices())
    assert service_host.path.read_bytes().startswith(b"own 1\n")
    messages(notified)
    for number in range(1, 4):
        service_host.service.reload()
        wait_until(lambda: service_host.reloads == number)  # noqa: B023 - called at once
    assert messages(notified) == []
    service_host.may_continue.set()
    wait_until(service_host.has_devices)
    wait_until(lambda: "WATCHDOG=1" in messages(notified))


def test_a_service_that_hangs_ends(service_host: Host) -> None:
    wait_until(service_host.has_devices)
    service_host.may_continue.clear()
    wait_until(lambda: not service_host.has_devices())
    service_host.service.stop()
    service_host.thread.join(PATIENCE)
    assert not service_host.thread.is_alive()
    assert not service_host.path.exists()


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (CdiGenError("no libraries", hint="install them", code="CDG-H003"), "no libraries"),
        (ZeroDivisionError("made by a test"), "ZeroDivisionError: made by a test"),
    ],
)
def test_a_snapshot_that_fails_is_reported_once_and_taken_again(
    service_host: Host, error: Exception, part: str
) -> None:
    wait_until(service_host.has_devices)
    service_host.error = error
    before = service_host.taken
    wait_until(lambda: service_host.taken > before + 3)
    service_host.error = None
    wait_until(service_host.has_devices)
    (finding,) = service_host.findings
    assert finding.code == "CDG-O154"
    assert part in finding.message


def test_a_directory_that_vanishes_is_reported_once(
    service_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(service_host.has_devices)
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    before = service_host.taken
    wait_until(lambda: service_host.taken > before + 3)
    moved.rename(tmp_path)
    wait_until(service_host.has_devices)
    assert {finding.code for finding in service_host.findings} == {"CDG-O156"}
    assert len(service_host.findings) == 1
