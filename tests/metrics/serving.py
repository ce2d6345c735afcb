# SPDX-License-Identifier: Apache-2.0
"""A server for tests, and clients that send what they like."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.metrics.web import listeners, messages
from cdi_gen.metrics.web.connection import Limits
from cdi_gen.metrics.web.messages import Request, Response
from cdi_gen.metrics.web.server import MAX_CONNECTIONS, Server
from cdi_gen.metrics.web.web_config import WebConfigFile

PATIENCE = 60.0

PAGE = b"line\n" * 20_000
LARGE = 100
"""More pages than the kernel keeps for a client that does not read."""


def answer(request: Request) -> Response:
    """A page of 100 KB, one of 10 MB, one that fails, and nothing else."""
    if request.path == b"/metrics":
        return Response(HTTPStatus.OK, (PAGE,), (("Content-Type", "text/plain"),))
    if request.path == b"/large":
        return Response(HTTPStatus.OK, (PAGE,) * LARGE, (("Content-Type", "text/plain"),))
    if request.path == b"/broken":
        raise ZeroDivisionError("made by a test")
    return messages.text(HTTPStatus.NOT_FOUND)


class Running(NamedTuple):
    """A server that runs."""

    server: Server
    addresses: tuple[listeners.Address, ...]
    findings: list[Finding]

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0].port

    def connect(self) -> socket.socket:
        """A client's connection to the first address."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


@contextmanager
def running(
    *addresses: str,
    web_config: str = "",
    limits: Limits = Limits(),  # noqa: B008
    max_connections: int = MAX_CONNECTIONS,
) -> Iterator[Running]:
    """A server at these addresses; at a free port of 127.0.0.1 if there are none."""
    findings: list[Finding] = []
    configuration = WebConfigFile(web_config)
    open_listeners = [
        listeners.listen(listeners.parse(text)) for text in addresses or ("127.0.0.1:0",)
    ]
    server = Server(
        open_listeners,
        configuration,
        answer,
        findings.append,
        limits=limits,
        max_connections=max_connections,
    )
    server.start()
    try:
        yield Running(server, tuple(one.address for one in open_listeners), findings)
    finally:
        server.stop(0)


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_answer(response: HTTPResponse) -> Answer:
    """Read a response to its end."""
    return Answer(response.status, dict(response.getheaders()), response.read())


def get(
    port: int,
    path: str = "/metrics",
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request and read the response."""
    connection = HTTPConnection(host, port, timeout=PATIENCE)
    try:
        if tls is not None:
            plain = socket.create_connection((host, port), PATIENCE)
            connection.sock = tls.wrap_socket(plain, server_hostname="localhost")
        connection.request(method, path, headers=dict(headers or {}))
        return read_answer(connection.getresponse())
    finally:
        connection.close()


def exchange(client: socket.socket, data: bytes) -> bytes:
    """Send bytes, and read until the server ends the connection."""
    client.sendall(data)
    return read_to_end(client)


def request(client: socket.socket, path: str) -> Answer:
    """Send a request and read the response; the connection stays open."""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    response = HTTPResponse(client)
    response.begin()
    return read_answer(response)


def read_to_end(client: socket.socket) -> bytes:
    """Read until the server ends the connection, in order or not."""
    received = bytearray()
    while True:
        try:
            piece = client.recv(1 << 16)
        except ConnectionResetError:
            return bytes(received)
        if not piece:
            return bytes(received)
        received += piece


class Authority:
    """A CA with a certificate for the server, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", "/CN=test CA", "-keyout", directory / "ca.key", "-out", self.ca,
        )  # fmt: skip

    def certificate(self, name: str, sans: str) -> tuple[Path, Path]:
        """Make NAME.pem and NAME.key for these subject alternative names."""
        key, request = self.directory / f"{name}.key", self.directory / f"{name}.csr"
        certificate, extensions = self.directory / f"{name}.pem", self.directory / "extensions"
        extensions.write_text(f"subjectAltName={sans}\n")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", key, "-out", request,
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.directory / "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def client(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client that trusts the CA, and has a certificate or none."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate:
            context.load_cert_chain(*map(str, certificate))
        return context

    def _openssl(self, *words: str | Path) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
