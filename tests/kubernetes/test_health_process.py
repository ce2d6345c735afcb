# SPDX-License-Identifier: Apache-2.0
"""The process that watches the GPUs: its lines, its end, its silence."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cdi_base.findings import Finding
from cdi_gen.kubernetes.health import process as module
from cdi_gen.kubernetes.health.judge import Change, Judge
from cdi_gen.kubernetes.health.process import HealthProcess, request, watched
from cdi_gen.kubernetes.health.xids import Rules
from tests.kubernetes.kubelet import wait_until
from tests.unit.kubernetes.nodes import inventory

HGX = inventory("hgx-550-8gpu")
UUID = HGX.gpus[0].uuid or ""
EVENT = json.dumps(
    {"event": {"gpu_uuid": UUID, "xid": 79, "gpu_instance": 2**32 - 1, "compute_instance": 0}}
)
WELL = json.dumps({"check": {"gpu_uuid": UUID, "fault": "", "recovery": ""}})


class Watching:
    """A running health process, with what it said."""

    def __init__(self, program: str) -> None:
        self.changes: list[Change] = []
        self.findings: list[Finding] = []
        self.process = HealthProcess(
            HGX,
            "/host",
            Judge(watched(HGX), Rules()),
            self.changes.append,
            self.findings.append,
            (sys.executable, "-c", program),
        )
        self.process.start()

    def messages(self) -> list[str]:
        return [finding.message for finding in self.findings]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Watching]]:
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.05)
    running: list[Watching] = []

    def start(program: str) -> Watching:
        running.append(Watching(program))
        return running[-1]

    yield start
    for watching in running:
        watching.process.stop()
    wait_until(lambda: not any(thread.name == "health" for thread in threading.enumerate()))


def test_the_request_names_the_library_of_the_host_and_its_gpus() -> None:
    document = request(HGX, "/host")
    assert document is not None
    assert document["library"].startswith("/host/usr/lib")
    assert document["gpus"][UUID] == HGX.gpus[0].pci_address
    assert len(document["gpus"]) == 8


def test_events_become_changes(watch: Callable[[str], Watching]) -> None:
    watching = watch(f"import time; print({EVENT!r}, flush=True); time.sleep(60)")
    wait_until(lambda: watching.changes)
    (change,) = watching.changes
    assert (change.uuid, change.healthy, change.finding.code) == (UUID, False, "CDG-N203")


def test_a_process_that_ends_is_started_again_and_reported_once(
    watch: Callable[[str], Watching],
) -> None:
    watching = watch(
        f"import sys; sys.stdin.read(); print({EVENT!r}); print({WELL!r}); sys.exit(3)"
    )
    wait_until(lambda: len(watching.changes) == 1)
    wait_until(lambda: watching.findings)
    assert watching.messages()[0] == (
        "the health of the GPUs is not watched: the process ended with status 3"
    )


def test_a_process_without_nvml_says_why(watch: Callable[[str], Watching]) -> None:
    watching = watch('import sys; sys.stdin.read(); print(\'{"error": "no NVML"}\')')
    wait_until(lambda: watching.findings)
    assert watching.messages()[0] == "the health of the GPUs is not watched: no NVML"


def test_a_process_that_hangs_is_replaced(
    watch: Callable[[str], Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVML may hang for minutes; nothing waits for it."""
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.2)
    watching = watch("import time; time.sleep(60)")
    wait_until(lambda: watching.findings)
    assert watching.messages() == [
        "the health of the GPUs is not watched: NVML has not answered for 0 s"
    ]


def test_a_process_without_news_ends_at_once(watch: Callable[[str], Watching]) -> None:
    """The thread that reads wakes up for lines and for the end, not to look for the end."""
    watching = watch(f"import time; print({WELL!r}, flush=True); time.sleep(100)")
    readers = [thread for thread in threading.enumerate() if thread.name == "health"]
    begin = time.monotonic()
    watching.process.stop()
    for reader in readers:
        reader.join(30)
    assert readers
    assert watching.messages() == []
    assert time.monotonic() - begin < 30
