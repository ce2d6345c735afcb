# SPDX-License-Identifier: Apache-2.0
"""HTTP to programs in another network namespace, from a process that stays outside."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_NEWNET = 0x40000000
"""CLONE_NEWNET of <sched.h>."""

_SECONDS = 60


class Response(NamedTuple):
    """An answer to a request."""

    status: int
    text: str


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Network:
    """The network namespace of a process; threads may share it."""

    def __init__(self, pid: int) -> None:
        # A namespace is left to a thread of its own: a socket stays in the one where it was made.
        path = f"/proc/{pid}/ns/net"
        self._inside = ThreadPoolExecutor(1, initializer=_enter, initargs=(path,))
        # The thread starts now: it is the node's, and not of the test that connects first.
        self._inside.submit(os.getpid).result()

    def close(self) -> None:
        self._inside.shutdown()

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a connected TCP socket."""
        address = (host, port)
        return self._inside.submit(socket.create_connection, address, _SECONDS).result()

    def request(
        self,
        method: str,
        url: str,
        *,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Ask an HTTP or HTTPS server inside; its certificate is not verified.

        Raises:
            OSError: nothing listens there.
        """
        parts = urlsplit(url)
        assert parts.hostname is not None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = http.client.HTTPConnection(parts.hostname, port)
        connection.sock = self.connect(parts.hostname, port)
        try:
            if parts.scheme == "https":
                connection.sock = _tls().wrap_socket(connection.sock)
            target = parts.path or "/"
            target += f"?{parts.query}" if parts.query else ""
            connection.request(method, target, body, dict(headers or {}))
            response = connection.getresponse()
            return Response(response.status, response.read().decode("utf-8", "surrogateescape"))
        except http.client.HTTPException as error:
            raise ConnectionError(f"{url}: {error!r}") from error
        finally:
            connection.close()

    def get(self, url: str) -> str:
        """Return what a server inside has at ``url``.

        Raises:
            OSError: nothing listens there, or it answers with an error.
        """
        response = self.request("GET", url)
        if response.status != 200:
            raise ConnectionError(f"{url}: {response.status} {response.text.strip()}")
        return response.text


class Api:
    """The API server, asked by a user with a token."""

    def __init__(self, network: Network, url: str, token: str) -> None:
        self._network = network
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> Any:
        """Return the object or list at ``path``, for instance ``/api/v1/nodes``.

        Raises:
            ApiError: the server refused; a status of 404 is an object that does not exist.
            OSError: no server listens.
        """
        return json.loads(self.call("GET", path))

    def create(self, path: str, manifest: Mapping[str, Any]) -> Any:
        """Create an object in the collection ``path``; see ``get``."""
        return json.loads(self.call("POST", path, manifest, "application/json"))

    def patch(self, path: str, changes: Mapping[str, Any]) -> Any:
        """Merge ``changes`` into the object at ``path``; see ``get``."""
        return json.loads(self.call("PATCH", path, changes, "application/merge-patch+json"))

    def delete(self, path: str, *, grace_seconds: int = 0) -> None:
        """Delete the object at ``path``; see ``get``."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace_seconds}
        self.call("DELETE", path, options, "application/json")

    def call(self, method: str, path: str, body: object = None, kind: str = "") -> str:
        """Send a request, with ``body`` as JSON of the media type ``kind``; see ``get``."""
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        text = None if body is None else json.dumps(body)
        answer = self._network.request(method, self._url + path, body=text, headers=headers)
        if answer.status >= 400:
            raise ApiError(answer.status, _message(answer.text))
        return answer.text


def _message(text: str) -> str:
    """The message in a Status of Kubernetes, or the text as it is."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _enter(path: str) -> None:
    """Have this thread create its sockets in another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(namespace, _NEWNET) == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(namespace)
