# SPDX-License-Identifier: Apache-2.0
"""Changes of the health of devices become Events of the node."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from cdi_base.findings import Finding
from cdi_gen.kubernetes import node_events as module
from cdi_gen.kubernetes.access import Access
from cdi_gen.kubernetes.api import Api
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.node_events import MAX_WAITING, NodeEvents, event
from tests.kubernetes.api_server import ApiServer, api_server
from tests.kubernetes.kubelet import SECONDS, wait_until

EVENTS = "/api/v1/namespaces/default/events"
LOST = Change(
    "GPU-1",
    healthy=False,
    finding=Finding("CDG-N203", "error", "GPU-1 must not be used: Xid 79", fix="Reset the GPU."),
)
BACK = Change("GPU-1", healthy=True, finding=Finding("CDG-N205", "info", "GPU-1 is offered again"))


class EndedError(Exception):
    """The test has ended."""


class Events(NodeEvents):
    """Events whose thread can be ended; a plugin's ends with its process."""

    ended = False

    def _send_all(self) -> None:
        with suppress(EndedError):
            super()._send_all()

    def _send(self, content: dict[str, Any]) -> bool:
        if self.ended:
            raise EndedError
        return super()._send(content)

    def end(self) -> None:
        self.ended = True
        self.health_changed(LOST)
        for thread in threading.enumerate():
            if thread.name == "events":
                thread.join(SECONDS)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as server:
        server.collections.add(EVENTS)
        yield server


@pytest.fixture
def reports() -> list[Finding]:
    return []


@pytest.fixture
def events(
    server: ApiServer, reports: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> Iterator[NodeEvents]:
    monkeypatch.setattr(module, "pause", lambda _failures: 0.01)
    events = Events(Api(Access(server=server.url), {}), "worker-1", reports.append)
    yield events
    events.end()


def test_each_change_is_an_event(server: ApiServer, events: NodeEvents) -> None:
    events.health_changed(LOST)
    events.health_changed(BACK)
    wait_until(lambda: len(server.objects) == 2)
    lost, back = server.objects.values()
    assert lost["involvedObject"] == {
        "apiVersion": "v1", "kind": "Node", "name": "worker-1", "uid": "worker-1",
    }  # fmt: skip
    assert (lost["type"], lost["reason"]) == ("Warning", "DeviceUnhealthy")
    assert lost["message"] == "GPU-1 must not be used: Xid 79 [CDG-N203] Reset the GPU."
    assert (back["type"], back["reason"]) == ("Normal", "DeviceHealthy")
    assert back["message"] == "GPU-1 is offered again [CDG-N205]"


def test_an_event_waits_for_the_api_server(
    server: ApiServer, events: NodeEvents, reports: list[Finding]
) -> None:
    server.faults += [(503, "starting")] * 8
    events.health_changed(LOST)
    wait_until(lambda: len(server.objects) == 1)
    assert [finding.code for finding in reports] == ["CDG-N122"]


def test_an_event_that_is_refused_does_not_hold_up_the_next(
    server: ApiServer, events: NodeEvents, reports: list[Finding]
) -> None:
    server.faults.append((403, "events is forbidden"))
    events.health_changed(LOST)
    events.health_changed(BACK)
    wait_until(lambda: len(server.objects) == 1)
    assert [item["reason"] for item in server.objects.values()] == ["DeviceHealthy"]
    assert "events is forbidden" in reports[0].message


def test_more_events_than_can_wait_are_left_to_the_log(
    server: ApiServer, reports: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    api = Api(Access(server=server.url), {})
    monkeypatch.setattr(api, "request", lambda *_: answer.wait())
    events = Events(api, "worker-1", reports.append)
    for _ in range(MAX_WAITING + 2):
        events.health_changed(LOST)
    answer.set()
    events.end()
    messages = " ".join(finding.message for finding in reports)
    assert "too many Events wait for the API server" in messages


def test_an_event_keeps_the_limits_of_kubernetes() -> None:
    finding = Finding("CDG-N203", "error", "x" * 2000)
    content = event(Change("GPU-1", healthy=False, finding=finding), "n" * 253, 0.0)
    assert len(content["metadata"]["name"]) <= 253
    assert len(content["message"]) == 1024
    assert content["firstTimestamp"] == "1970-01-01T00:00:00Z"
