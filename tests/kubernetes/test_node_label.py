# SPDX-License-Identifier: Apache-2.0
"""The label of a node is followed, also while the API server is away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from cdi_base.findings import Finding
from cdi_gen.kubernetes import api as api_module
from cdi_gen.kubernetes import node_label as module
from cdi_gen.kubernetes.access import Access
from cdi_gen.kubernetes.api import Api, ApiError
from cdi_gen.kubernetes.node_label import METADATA, NodeLabel
from tests.kubernetes.api_server import ApiServer, api_server
from tests.kubernetes.kubelet import SECONDS, wait_until

NODE = "/api/v1/nodes/worker-1"
LABEL = "nvidia.com/device-plugin.config"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as server:
        yield server


class EndedError(Exception):
    """The test has ended."""


class Label(NodeLabel):
    """A label whose thread ends at a pause that raises EndedError."""

    def _follow(self, changed: Callable[[], None]) -> None:
        with suppress(EndedError):
            super()._follow(changed)


@pytest.fixture
def label(
    server: ApiServer, reports: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> Iterator[NodeLabel]:
    def pause(_failures: int) -> float:
        if server.ended:
            raise EndedError
        return 0.01

    monkeypatch.setattr(module, "pause", pause)
    yield Label(Api(Access(server=server.url), {}), "worker-1", LABEL, reports.append)
    server.ended = True
    for thread in threading.enumerate():
        if thread.name == "label":
            thread.join(SECONDS)


@pytest.fixture
def reports() -> list[Finding]:
    return []


def follow(label: NodeLabel) -> Callable[[], list[str]]:
    """Follow the label; return a function that gives the values so far."""
    values: list[str] = []
    label.follow(lambda: values.append(label.value))
    return lambda: list(values)


def test_changes_arrive(server: ApiServer, label: NodeLabel) -> None:
    server.change(NODE, {LABEL: "a100"})
    assert label.wait() == "a100"
    values = follow(label)
    server.change(NODE, {LABEL: "a100", "another": "label"})
    server.change(NODE, {LABEL: "t4"})
    wait_until(lambda: values() == ["t4"])
    server.change(NODE, {})
    wait_until(lambda: values() == ["t4", ""])


def test_the_watch_starts_at_the_version_that_was_read(server: ApiServer, label: NodeLabel) -> None:
    for number in range(3):
        server.change(NODE, {LABEL: str(number)})
        label.wait()
    follow(label)
    wait_until(lambda: any("watch=true" in path for _, path in server.requests))
    watch = next(path for _, path in server.requests if "watch=true" in path)
    assert "resourceVersion=3&" in watch
    assert "fieldSelector=metadata.name%3Dworker-1&" in watch


def test_it_waits_for_the_api_server(
    server: ApiServer, label: NodeLabel, reports: list[Finding]
) -> None:
    server.change(NODE, {LABEL: "a100"})
    server.faults += [(403, "no role")] * 3
    assert label.wait() == "a100"
    assert [finding.code for finding in reports] == ["CDG-N308"]
    assert (
        "the label nvidia.com/device-plugin.config of the node is not known" in reports[0].message
    )


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(None, id="ended"),
        pytest.param({"type": "ERROR", "object": {"code": 410}}, id="version too old"),
        pytest.param({"type": "DELETED", "object": {"metadata": {}}}, id="node deleted"),
        pytest.param([], id="no object"),
        pytest.param({"type": "MODIFIED", "object": None}, id="no node"),
    ],
)
def test_a_watch_that_ends_is_begun_again(
    server: ApiServer, label: NodeLabel, end: object, reports: list[Finding]
) -> None:
    server.change(NODE, {LABEL: "a100"})
    label.wait()
    values = follow(label)
    server.send(None if end is None else json.dumps(end).encode() + b"\n")
    wait_until(lambda: sum("watch=true" in path for _, path in server.requests) == 2)
    server.change(NODE, {LABEL: "t4"})
    wait_until(lambda: values() == ["t4"])
    assert len(reports) == (end in ([], {"type": "MODIFIED", "object": None}))


def test_a_change_while_the_api_server_is_away_is_not_lost(
    server: ApiServer, label: NodeLabel
) -> None:
    server.change(NODE, {LABEL: "a100"})
    label.wait()
    values = follow(label)
    wait_until(lambda: any("watch=true" in path for _, path in server.requests))
    server.faults += [(401, "expired")] * 5
    server.change(NODE, {LABEL: "t4"})
    server.watched.clear()
    server.send(None)
    wait_until(lambda: values() == ["t4"])


def test_an_answer_in_parts_is_put_together(server: ApiServer) -> None:
    line = json.dumps({"type": "MODIFIED", "object": {"metadata": {"name": "ü" * 50}}}).encode()
    server.send(line[:7], line[7:60], line[60:] + b"\n" + line[:9], line[9:], None)
    api = Api(Access(server=server.url), {})
    events = list(api.watch("/api/v1/nodes?watch=true", accept=METADATA, seconds=5))
    assert [content["metadata"]["name"] for _, content in events] == ["ü" * 50] * 2


def test_a_line_without_end_is_an_error(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_LINE_BYTES", 1000)
    server.send(*[b"x" * 300] * 5)
    api = Api(Access(server=server.url), {})
    with pytest.raises(ApiError, match="a line of more than 1000 bytes"):
        list(api.watch("/api/v1/nodes?watch=true", accept=METADATA, seconds=5))


def test_watches_that_end_at_once_are_not_begun_without_a_pause(
    server: ApiServer, label: NodeLabel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that ends every answer made the plugin send hundreds of requests a second."""
    pauses: list[int] = []

    def pause(failures: int) -> float:
        pauses.append(failures)
        if len(pauses) == 5:
            raise EndedError
        return 0.01

    monkeypatch.setattr(module, "pause", pause)
    server.change(NODE, {LABEL: "a100"})
    label.wait()
    monkeypatch.setattr(server, "lines", lambda *_: iter(()))
    follow(label)
    wait_until(lambda: len(pauses) == 5)
    assert pauses == [0, 1, 2, 3, 4]
    assert sum("watch=true" in path for _, path in server.requests) == 5


@pytest.mark.parametrize("metadata", [[], "text", 7, {"labels": []}, {"labels": "x"}, None])
def test_a_node_that_is_no_node_has_no_label(
    server: ApiServer, label: NodeLabel, metadata: object
) -> None:
    """The thread that follows the label ended with a traceback, and nothing followed it again."""
    server.objects[NODE] = {"metadata": metadata}
    assert label.wait() == ""
