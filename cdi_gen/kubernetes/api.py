# SPDX-License-Identifier: Apache-2.0
"""A small client of Kubernetes' API server: single objects in JSON, and a watch.

urllib3 takes 60 ms to import and 23 MiB; Kubernetes' own client for Python takes 207 ms and 43 MiB.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import urllib3

from cdi_base import VERSION
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.access import Access, AccessError
from cdi_gen.kubernetes.deadline import Deadline, deadline_after, with_deadlines

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
"""The content type of a server-side apply; JSON is YAML."""

CONNECT_SECONDS, READ_SECONDS = 5, 15
REQUEST_SECONDS = 30.0
"""Of a request with all its tries, until the answer is complete."""
TIMEOUT = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
READ_BYTES = 1 << 16
MAX_LINE_BYTES = 4 << 20
"""Of a change that a watch reports. The API server keeps objects of at most 1.5 MiB."""
MAX_ANSWER_BYTES = 16 << 20

BUSY = (429, 500, 502, 503, 504)
"""Statuses of HTTP after which a request is sent again."""

RETRIES = urllib3.Retry(
    total=2,
    backoff_factor=0.5,
    redirect=False,
    allowed_methods=None,  # every method: all requests here can be repeated
    respect_retry_after_header=False,
)
TRIES, PAUSE_SECONDS = 3, 0.5
"""Of a request to a busy server. urllib3 would read the answers before the last to their end."""


class ApiError(CdiGenError):
    """The API server refuses a request, or does not answer."""

    code = "CDG-N307"

    def __init__(
        self, message: str, *, hint: str | None = None, code: str = "", status: int = 0
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
        """The status of HTTP; 0 if there was no answer."""


class Api:
    """The API server of a cluster."""

    def __init__(self, access: Access, environment: Mapping[str, str] = os.environ) -> None:
        self._access = access
        options: dict[str, Any] = {"timeout": TIMEOUT, "retries": RETRIES}
        if access.server.startswith("https:"):
            options["ssl_context"] = _tls(access)
        if access.server_name is not None:
            options |= {
                "assert_hostname": access.server_name,
                "server_hostname": access.server_name,
            }
        elif not access.verified:
            options["assert_hostname"] = False
            # The kubeconfig asks for it; urllib3 would print a warning for each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        proxy = proxy_of(access.server, environment) if access.proxy is None else access.proxy
        self._pool = with_deadlines(
            urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """Send a request and return the object of the answer.

        Args:
            method: ``GET``, ``POST`` …
            path: ``/api/v1/nodes/NAME``.
            body: an object; None: no body.
            content_type: the type of the body.
            accept: the type of the answer.

        Raises:
            ApiError: the server does not answer, or answers with an error.
            AccessError: the token cannot be read.
        """
        headers = self._headers(accept)
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        with deadline_after(REQUEST_SECONDS) as deadline:
            status, answer = self._answer(method, path, content, headers, deadline)
            for attempt in range(1, TRIES):
                if status not in BUSY:
                    break
                time.sleep(attempt * PAUSE_SECONDS)
                status, answer = self._answer(method, path, content, headers, deadline)
        document = _document(answer)
        if status >= 300 or document is None:
            raise _refusal(method, path, status, document)
        return document

    def _answer(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: dict[str, str],
        deadline: Deadline,
    ) -> tuple[int, bytes]:
        """Send a request once; return the status and the content of the answer."""
        with self._connection(deadline), deadline.connecting():
            response = self._pool.request(
                method,
                self._access.server + path,
                body=content,
                headers=headers,
                preload_content=False,
            )
            try:
                return response.status, _content(response)
            finally:
                response.close()

    def watch(
        self, path: str, *, accept: str, seconds: float
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the changes of objects, each as its type and the object, until the watch ends.

        Args:
            path: the collection, with the parameters of a watch.
            accept: the type of the objects.
            seconds: the time after which the server ends the watch. A server that sends nothing
                for longer is gone.

        Raises:
            ApiError: the server does not answer, answers with an error, or sends something else.
            AccessError: the token cannot be read.
        """
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds + READ_SECONDS)
        url, headers = self._access.server + path, self._headers(accept)
        with deadline_after(seconds + REQUEST_SECONDS) as deadline, self._connection(deadline):
            with deadline.connecting():
                response = self._pool.request(
                    "GET",
                    url,
                    headers=headers,
                    timeout=timeout,
                    retries=False,
                    preload_content=False,
                )
            try:
                if response.status >= 300:
                    document = _document(response.read(MAX_LINE_BYTES))
                    raise _refusal("GET", path, response.status, document)
                for line in _lines(response):
                    event = _document(line)
                    content = event.get("object") if event else None
                    if event is None or not isinstance(content, dict):
                        raise _refusal("GET", path, response.status, None)
                    yield str(event.get("type")), content
            finally:
                # Unlike release_conn, this also ends an answer that is not read to its end.
                response.close()

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"cdi-gen/{VERSION}"}
        token = self._access.bearer_token()
        if token and not (token.isascii() and token.isprintable()):
            raise AccessError("the token for the API server has characters that no token has")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    @contextmanager
    def _connection(self, deadline: Deadline) -> Iterator[None]:
        """Turn the errors of a connection into an `ApiError`."""
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            if not deadline.has_passed:
                raise self._silence(getattr(error, "reason", None) or error) from error
        if deadline.has_passed:
            raise self._silence(f"the answer is not complete after {deadline.seconds:.0f} s")

    def _silence(self, reason: object) -> ApiError:
        return ApiError(
            f"the API server {self._access.server} does not answer: {reason}",
            hint="look at the network of the node, and at the API server",
        )


def _document(content: bytes) -> dict[str, Any] | None:
    """Return an object in JSON; None if the content is something else."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def table(value: object) -> dict[str, Any]:
    """Return a mapping of an object; it is empty if the server sends something else."""
    return value if isinstance(value, dict) else {}


def _content(response: urllib3.BaseHTTPResponse) -> bytes:
    """Return the content of an answer.

    Raises:
        ApiError: it is too long.
    """
    content = bytearray()
    for part in response.stream(READ_BYTES):
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            raise ApiError(f"the API server answers with more than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the lines of an answer as they come.

    Raises:
        ApiError: a line is too long.
    """
    rest = bytearray()
    for part in response.stream(READ_BYTES):
        *lines, end = part.split(b"\n")
        if lines:
            lines[0] = bytes(rest + lines[0])
            yield from filter(bytes.strip, lines)
            rest.clear()
        rest += end
        if len(rest) > MAX_LINE_BYTES:
            raise ApiError(f"the API server sends a line of more than {MAX_LINE_BYTES} bytes")
    if rest.strip():
        yield bytes(rest)


def _refusal(method: str, path: str, status: int, document: object) -> ApiError:
    """Return the error for an answer that is not an object of the request."""
    if status < 300:
        return ApiError(
            f"the API server answers {method} {path} with something else than an object",
            hint="is it an API server of Kubernetes, or a proxy?",
            code="CDG-N308",
            status=status,
        )
    message = document.get("message") if isinstance(document, dict) else None
    hints = {
        401: "the token is not valid; look at the service account of the pod, or the kubeconfig",
        403: "give the service account a role with the verb and the resource of the message",
    }
    return ApiError(
        f"the API server refuses {method} {path}: {message or f'status {status}'}",
        hint=hints.get(status),
        code="CDG-N308",
        status=status,
    )


def _tls(access: Access) -> ssl.SSLContext:
    """Return the settings of TLS.

    Raises:
        AccessError: a certificate is not valid.
    """
    try:
        authority = None if access.authority is None else access.authority.decode("ascii")
        context = ssl.create_default_context(cadata=authority)
        # urllib3 itself compares the name: before 2.0 it gives ssl no name if it is an address.
        context.check_hostname = False
        if not access.verified:
            context.verify_mode = ssl.CERT_NONE
        if access.certificate is not None:
            _load_certificate(context, access.certificate)
    except (ssl.SSLError, ValueError) as error:
        raise AccessError(f"a certificate for {access.server} is not valid: {error}") from error
    return context


def _load_certificate(context: ssl.SSLContext, certificate: bytes) -> None:
    """Load a client certificate, by a file in memory: the ssl module takes only files."""
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def proxy_of(server: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy for a server; None if it is reached directly.

    ``NO_PROXY`` has the meaning that Kubernetes' programs give it: names of hosts with the hosts
    below them, addresses, and networks such as ``10.96.0.0/12``.
    """
    parts = urlsplit(server)
    host = parts.hostname or ""
    proxies = {name.lower(): value for name, value in environment.items() if value}
    proxy = proxies.get(f"{parts.scheme}_proxy")
    excluded = proxies.get("no_proxy", "").split(",")
    if proxy is None or any(_matches(host, pattern.strip()) for pattern in excluded):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _matches(host: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        name = pattern.lstrip(".").lower()
        return bool(name) and (host == name or host.endswith(f".{name}"))
