# SPDX-License-Identifier: Apache-2.0
"""The part of an API server that a node needs, for tests without a cluster: objects by their paths.

It keeps a ``resourceVersion``, refuses updates of an older one, knows server-side apply as far as
labels of one owner go, and reports changes to a watch.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

APPLY = "application/apply-patch+yaml"


@dataclass
class ApiServer:
    """Objects, requests and faults of a server."""

    url: str
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Objects by their paths."""
    collections: set[str] = field(default_factory=set)
    """Paths of collections in which objects may be created."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""
    tokens: list[str] = field(default_factory=list)
    """The credentials of each request."""
    faults: list[tuple[int, str]] = field(default_factory=list)
    """Statuses and messages for the next requests; empty: they are answered."""
    applied: dict[str, set[str]] = field(default_factory=dict)
    """The labels of each object that were applied."""
    watched: list[tuple[int | None, bytes | None]] = field(default_factory=list)
    """Lines for the watch, with the versions of their objects, which are not sent to a watch that
    begins at them; None ends the watch."""
    watch: int = 0
    """The number of the newest watch, which alone gets lines."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a watch begins or takes a line: a line is not lost to a watch that has ended."""
    ended: bool = False
    """Whether watches end at once."""

    def answer(self, method: str, path: str, kind: str, body: Any) -> tuple[int, Any]:
        """Return the status and the object of an answer."""
        path, _, query = path.partition("?")
        if method == "GET":
            return (200, self.objects[path]) if path in self.objects else missing(path)
        if method == "POST":
            if path not in self.collections:
                return missing(path)
            return self._store(f"{path}/{body['metadata']['name']}", body, 201)
        if path not in self.objects:
            return missing(path)
        current = self.objects[path]
        if method == "PATCH":
            assert (kind, query) == (APPLY, "fieldManager=cdi-gen-labels&force=true")
            labels = dict(current["metadata"].get("labels") or {})
            for name in self.applied.get(path, ()):
                labels.pop(name, None)
            wanted = body["metadata"]["labels"]
            self.applied[path] = set(wanted)
            metadata = {**current["metadata"], "labels": labels | wanted}
            return self._store(path, {**current, "metadata": metadata}, 200)
        if body["metadata"].get("resourceVersion") != current["metadata"]["resourceVersion"]:
            return status(409, "the object has been modified; please apply your changes again")
        return self._store(path, body, 200)

    def change(self, path: str, labels: dict[str, str]) -> None:
        """Set the labels of an object, and report it to the watch."""
        metadata = {**self.objects.get(path, {"metadata": {}})["metadata"], "labels": labels}
        _, content = self._store(path, {"metadata": metadata}, 200)
        line = json.dumps({"type": "MODIFIED", "object": content}).encode() + b"\n"
        self.watched.append((int(content["metadata"]["resourceVersion"]), line))

    def send(self, *lines: bytes | None) -> None:
        """Send lines to the watch, whatever they are; None ends it."""
        self.watched += [(None, line) for line in lines]

    def begin_watch(self) -> int:
        """Return the number of a new watch; earlier ones get no lines from now on."""
        with self.lock:
            self.watch += 1
            return self.watch

    def lines(self, number: int, version: int) -> Iterator[bytes]:
        """Yield the lines of the watch of this number that begins at a version."""
        while not self.ended:
            with self.lock:
                if self.watch != number:
                    return
                newer, line = self.watched.pop(0) if self.watched else (0, b"")
            if line is None:
                return
            if newer == 0:
                time.sleep(0.002)
            elif newer is None or newer > version:
                yield line

    def _store(self, path: str, body: dict[str, Any], code: int) -> tuple[int, Any]:
        version = int(
            self.objects.get(path, {"metadata": {}})["metadata"].get("resourceVersion", 0)
        )
        metadata = {**body["metadata"], "resourceVersion": str(version + 1), "uid": "of-the-server"}
        self.objects[path] = {**body, "metadata": metadata}
        return code, self.objects[path]


def status(code: int, message: str) -> tuple[int, Any]:
    """An answer that is an error."""
    return code, {"kind": "Status", "status": "Failure", "message": message, "code": code}


def missing(path: str) -> tuple[int, Any]:
    return status(404, f"{path} not found")


@contextmanager
def api_server(
    certificate: Path | None = None, client_ca: Path | None = None
) -> Iterator[ApiServer]:
    """A server that runs until the end of the block.

    Args:
        certificate: certificate and key, for HTTPS.
        client_ca: the authority of the certificates that clients must have.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            watch = server.begin_watch() if "watch=true" in self.path else 0
            server.requests.append((self.command, self.path))
            server.tokens.append(self.headers.get("Authorization", ""))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if watch and not server.faults:
                self.watch(watch)
                return
            if server.faults:
                code, document = status(*server.faults.pop(0))
            else:
                kind = self.headers.get("Content-Type", "")
                code, document = server.answer(self.command, self.path, kind, body)
            content = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def watch(self, number: int) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            _, found, rest = self.path.partition("resourceVersion=")
            for line in server.lines(number, int(rest.partition("&")[0]) if found else 0):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815 - names of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

    http = _Server(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]
    scheme = "http"
    if certificate is not None:
        scheme = "https"
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        # The handshake is in the thread of the request: a client that sends nothing stops no other.
        http.socket = context.wrap_socket(
            http.socket, server_side=True, do_handshake_on_connect=False
        )
    server = ApiServer(f"{scheme}://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended = True
        http.shutdown()
        http.close_connections()
        http.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """A server whose threads end with it, those of connections that clients keep open included."""

    daemon_threads = False  # else server_close does not wait for them

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client has closed it
                    # Of TLS, the thread of the connection itself closes its part.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


def self_signed(file: Path, name: str) -> Path:
    """Write a certificate and its key: its own authority, for 127.0.0.1 and a host name."""
    key = file.with_suffix(".key")
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject),
            *("-keyout", str(key), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + key.read_text())
    return file


def kubeconfig(**changes: Any) -> bytes:
    """A kubeconfig with one cluster and a user with a token."""
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "n"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://api:6443/"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    return json.dumps(document | changes).encode()
