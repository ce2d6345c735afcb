# SPDX-License-Identifier: Apache-2.0
"""How often the text of a snapshot is made, in which form it is read, and when it is too old."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from http import HTTPStatus

import pytest

from cdi_gen.metrics.pages import Form, Pages
from cdi_gen.metrics.routes import Routes
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.metrics.web import messages
from cdi_gen.telemetry.model import Reading

SNAPSHOT = Snapshot(reading=Reading(time=1.0, seconds=0.1))
FORMS = [Form(openmetrics, compressed) for openmetrics in (False, True) for compressed in (False, True)]  # fmt: skip


class Host:
    """Pages with a clock, and what was rendered."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rendered: list[tuple[bool, bool]] = []
        self.pages = Pages(self.render, 10.0, lambda: self.now)

    def render(self, snapshot: Snapshot | None, openmetrics: bool) -> bytes:
        self.rendered.append((snapshot is not None, openmetrics))
        text = b"device 1\n" if snapshot else b"own 1\n"
        return text + (b"# EOF\n" if openmetrics else b"")

    def text(self, form: Form) -> bytes:
        parts = self.pages.text(form)
        assert parts is not None
        joined = b"".join(parts)
        return gzip.decompress(joined) if form.gzip else joined


@pytest.fixture
def page_host() -> Host:
    return Host()


@pytest.mark.parametrize("form", FORMS)
def test_the_text_ends_with_the_age(page_host: Host, form: Form) -> None:
    page_host.pages.publish(SNAPSHOT)
    page_host.now += 1.5
    end = b"cdi_gen_metrics_snapshot_age_seconds 1.500\n" + (
        b"# EOF\n" if form.openmetrics else b""
    )
    text = page_host.text(form)
    assert text.startswith(b"device 1\n# HELP cdi_gen_metrics_snapshot_age_seconds ")
    assert text.endswith(end)
    assert text.count(b"# EOF") == form.openmetrics


def test_a_form_is_made_once_for_each_snapshot(page_host: Host) -> None:
    page_host.pages.publish(SNAPSHOT)
    assert page_host.rendered == []
    for _ in range(3):
        for form in FORMS:
            page_host.text(form)
    assert page_host.rendered == [(True, False), (True, True)]


def test_a_form_that_was_read_is_made_before_the_next_scrape(page_host: Host) -> None:
    page_host.pages.publish(SNAPSHOT)
    page_host.text(Form(openmetrics=True, gzip=True))
    page_host.rendered.clear()
    page_host.pages.publish(SNAPSHOT)
    assert page_host.rendered == [(True, True)]
    page_host.text(Form(openmetrics=True, gzip=True))
    assert page_host.rendered == [(True, True)]


def test_a_form_that_is_not_read_any_more_is_not_made(page_host: Host) -> None:
    page_host.pages.publish(SNAPSHOT)
    page_host.text(Form())
    page_host.pages.publish(SNAPSHOT)
    page_host.rendered.clear()
    page_host.pages.publish(SNAPSHOT)
    assert page_host.rendered == []


@pytest.mark.parametrize("form", FORMS)
def test_a_snapshot_that_is_too_old_has_no_devices(page_host: Host, form: Form) -> None:
    page_host.pages.publish(SNAPSHOT)
    page_host.now += 30
    assert b"device 1" in page_host.text(form)
    page_host.now += 1
    assert page_host.text(form).startswith(b"own 1\n")
    assert b"cdi_gen_metrics_snapshot_age_seconds 31.000" in page_host.text(form)
    page_host.pages.publish(SNAPSHOT)
    assert b"device 1" in page_host.text(form)


def test_before_the_first_snapshot_there_is_no_text(page_host: Host) -> None:
    assert page_host.pages.text(Form()) is None
    assert page_host.pages.age() is None
    assert page_host.pages.is_stale


Get = Callable[..., messages.Response]


@pytest.fixture
def get(page_host: Host) -> Get:
    def respond(path: str, **headers: str) -> messages.Response:
        pairs = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        return Routes(page_host.pages).answer(messages.request(b"GET", path.encode(), pairs))

    return respond


@pytest.mark.parametrize("path", ["/healthz", "/health"])
def test_health(page_host: Host, get: Get, path: str) -> None:
    answer = get(path)
    assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.body == (b"the GPUs were last measured: not yet\n",)
    page_host.pages.publish(SNAPSHOT)
    assert get(path).status == HTTPStatus.OK
    page_host.now += 40
    answer = get(path)
    assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.body == (b"the GPUs were last measured: 40 s ago\n",)


def test_metrics_before_the_first_snapshot_are_unavailable(get: Get) -> None:
    assert get("/metrics").status == HTTPStatus.SERVICE_UNAVAILABLE


@pytest.mark.parametrize(
    ("accept", "is_openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/json", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text; version=1.0.0; q=0, text/plain", False),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.3", False),
        ("application/openmetrics-text;q=0.5,text/plain;version=1.0.0,text/plain;q=0", True),
        ("application/openmetrics-text;q=x", False),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
            "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            False,
            id="Prometheus 2.42",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
            "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            False,
            id="Prometheus 3",
        ),
        ("," * 10_000 + "application/openmetrics-text", False),
    ],
)
def test_openmetrics_only_for_a_client_that_does_not_read_the_text_format(
    page_host: Host, get: Get, accept: str, is_openmetrics: bool
) -> None:
    page_host.pages.publish(SNAPSHOT)
    answer = get("/metrics", accept=accept)
    kind = dict(answer.headers)["Content-Type"]
    assert kind.startswith("application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain; version=0.0.4")  # fmt: skip
    assert b"".join(answer.body).endswith(b"# EOF\n") == is_openmetrics


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False),
     ("*", True), ("identity, *;q=0", False), ("br", False)],
)  # fmt: skip
def test_the_text_is_compressed_if_the_client_reads_gzip(
    page_host: Host, get: Get, accepted: str, is_compressed: bool
) -> None:
    page_host.pages.publish(SNAPSHOT)
    answer = get("/metrics", accept_encoding=accepted)
    assert (dict(answer.headers).get("Content-Encoding") == "gzip") == is_compressed
    assert b"".join(answer.body).startswith(b"\x1f\x8b") == is_compressed
