# SPDX-License-Identifier: Apache-2.0
"""What is served under which path."""

from __future__ import annotations

from http import HTTPStatus

from cdi_gen.metrics.pages import Form, Pages
from cdi_gen.metrics.web import messages
from cdi_gen.metrics.web.messages import Request, Response

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_NO_STORE = ("Cache-Control", "no-store")

INDEX = b"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>cdi-gen metrics</title></head>
<body>
<h1>cdi-gen metrics</h1>
<p>What each container does with its GPU.</p>
<ul>
<li><a href="metrics">metrics</a> for Prometheus</li>
<li><a href="healthz">healthz</a>: whether the values are fresh</li>
</ul>
</body>
</html>
"""


class Routes:
    """Answers requests from the pages."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def answer(self, request: Request) -> Response:
        """Return the response to a request."""
        if request.path == b"/metrics":
            return self._metrics(request)
        if request.path in {b"/healthz", b"/health"}:
            return self._health()
        if request.path == b"/":
            headers = (
                ("Content-Type", "text/html; charset=utf-8"),
                (
                    "Content-Security-Policy",
                    "default-src 'none'",
                ),
            )
            return Response(HTTPStatus.OK, (INDEX,), headers)
        return messages.text(HTTPStatus.NOT_FOUND)

    def _metrics(self, request: Request) -> Response:
        form = Form(messages.needs_openmetrics(request), messages.accepts_gzip(request))
        parts = self._pages.text(form)
        if parts is None:
            message = "the GPUs have not been measured yet"
            return messages.text(HTTPStatus.SERVICE_UNAVAILABLE, message, ("Retry-After", "1"))
        headers = [
            ("Content-Type", OPENMETRICS if form.openmetrics else TEXT),
            ("Vary", "Accept, Accept-Encoding"),
            _NO_STORE,
        ]
        if form.gzip:
            headers.append(("Content-Encoding", "gzip"))
        return Response(HTTPStatus.OK, parts, tuple(headers))

    def _health(self) -> Response:
        age = self._pages.age()
        if not self._pages.is_stale:
            return messages.text(HTTPStatus.OK, "ok", _NO_STORE)
        reason = "not yet" if age is None else f"{age:.0f} s ago"
        message = f"the GPUs were last measured: {reason}"
        return messages.text(HTTPStatus.SERVICE_UNAVAILABLE, message, _NO_STORE)
