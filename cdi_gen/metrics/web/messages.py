# SPDX-License-Identifier: Apache-2.0
"""Requests, responses, and what a client accepts; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

PLAIN = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """What a client asks for."""

    method: bytes
    path: bytes
    """As it was sent, without the query. It is compared and not decoded: none leads to a file."""
    headers: Mapping[bytes, bytes]
    """By names in lower case; the values of a header that was sent several times have commas."""

    def header(self, name: bytes) -> bytes:
        """Return the value of a header; empty if it was not sent."""
        return self.headers.get(name, b"")


class Response(NamedTuple):
    """What is sent to a client."""

    status: HTTPStatus
    body: Sequence[bytes]
    headers: tuple[tuple[str, str], ...] = ()


def request(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Request:
    """Return a request; the names of the headers are in lower case."""
    if target.startswith((b"http://", b"https://")):
        # A proxy sends the whole address.
        target = b"/" + target.split(b"://", 1)[1].partition(b"/")[2]
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        values[name] = values[name] + b", " + value if name in values else value
    return Request(method, target.partition(b"?")[0], values)


def text(status: HTTPStatus, message: str = "", *headers: tuple[str, str]) -> Response:
    """Return a response of plain text: the message, or the name of the status."""
    body = f"{message or status.phrase}\n".encode()
    return Response(status, (body,), (("Content-Type", PLAIN), *headers))


class Accepted(NamedTuple):
    """An element of ``Accept`` or ``Accept-Encoding``."""

    name: str
    parameters: Mapping[str, str]
    quality: float


MAX_ELEMENTS = 50


def accepted(header: bytes) -> Iterator[Accepted]:
    """Yield the elements of ``Accept`` or ``Accept-Encoding``; what is not one is left out."""
    for element in header.decode("latin-1").split(",", MAX_ELEMENTS)[:MAX_ELEMENTS]:
        name, *words = (word.strip().lower() for word in element.split(";"))
        parameters = dict(map(_parameter, words))
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if name and 0 <= quality <= 1:
            yield Accepted(name, parameters, quality)


def _parameter(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name.strip(), value.strip().strip('"')


def accepts_gzip(request: Request) -> bool:
    """Whether the client reads gzip."""
    elements = accepted(request.header(b"accept-encoding"))
    qualities = {element.name: element.quality for element in elements}
    return qualities.get("gzip", qualities.get("*", 0)) > 0


def needs_openmetrics(request: Request) -> bool:
    """Whether the client reads OpenMetrics 1.0 and not the text format of Prometheus.

    Prometheus prefers OpenMetrics, but there dcgm-exporter's counters, whose names do not end with
    ``_total``, would have no type. A client that accepts neither gets the text format.
    """
    openmetrics = text_format = 0.0
    for element in accepted(request.header(b"accept")):
        version = element.parameters.get("version")
        if element.name == "application/openmetrics-text" and version in {None, "1.0.0", "0.0.1"}:
            openmetrics = max(openmetrics, element.quality)
        elif element.name in {"text/plain", "text/*", "*/*"} and version in {None, "0.0.4"}:
            text_format = max(text_format, element.quality)
    return openmetrics > 0 and text_format == 0
