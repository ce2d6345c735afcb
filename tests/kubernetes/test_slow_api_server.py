# SPDX-License-Identifier: Apache-2.0
"""A server that sends a byte at a time holds no request: each read succeeds in time."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from cdi_gen.kubernetes import api as api_module
from cdi_gen.kubernetes.access import Access
from cdi_gen.kubernetes.api import Api, ApiError
from tests.kubernetes.api_server import api_server

OK = b"HTTP/1.1 200 OK\r\n"
PARTS = {
    "status": (b"H", b"H"),
    "headers": (OK + b"X: ", b"x"),
    "content": (OK + b"Content-Length: 100000\r\n\r\n", b" "),
    "content of unknown length": (OK + b"\r\n", b" "),
    "content of an error": (b"HTTP/1.1 503 Busy\r\nContent-Length: 100000\r\n\r\n", b" "),
    "TLS handshake": (b"\x16\x03\x03\x40\x00", b"\0"),
}
"""What a server sends at first, and what it goes on sending."""
PAUSE = 0.02


@contextmanager
def slow_server(first: bytes, following: bytes) -> Iterator[int]:
    """Send this to each client, with pauses between the bytes; yield the port."""
    is_over = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            for word in itertools.chain([first], itertools.repeat(following)):
                if is_over.wait(PAUSE):
                    return
                client.sendall(word)

    def accept() -> None:
        with suppress(OSError):
            while not is_over.is_set():
                client, _ = listening.accept()
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield listening.getsockname()[1]
        finally:
            is_over.set()
            listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def outcome(function: Callable[[], Any]) -> Any:
    """Return what a function raises, or its value; it must end."""
    values: list[Any] = []

    def run() -> None:
        try:
            values.append(function())
        except ApiError as error:
            values.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "the request goes on"
    return values[0]


@pytest.mark.parametrize("part", PARTS)
def test_a_request_ends_although_the_server_sends(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "REQUEST_SECONDS", 0.5)
    with slow_server(*PARTS[part]) as port:
        scheme = "https" if part == "TLS handshake" else "http"
        before = len(os.listdir("/proc/self/fd"))
        access = Access(server=f"{scheme}://127.0.0.1:{port}")
        error = outcome(lambda: Api(access, {}).request("GET", "/version"))
        assert isinstance(error, ApiError)
        assert error.code == "CDG-N307"
        assert "the answer is not complete after 0 s" in error.message
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_watch_ends_although_the_server_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "REQUEST_SECONDS", 0.5)
    with slow_server(*PARTS["content"]) as port:
        client = Api(Access(server=f"http://127.0.0.1:{port}"), {})
        error = outcome(lambda: list(client.watch("/x", accept="y", seconds=0.1)))
        assert "the answer is not complete after" in error.message


def test_a_connection_that_is_used_again_has_the_deadline_of_the_new_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with api_server() as server:
        server.objects["/x"] = {"metadata": {}}
        client = Api(Access(server=server.url), {})
        assert client.request("GET", "/x") == {"metadata": {}}
        hold = threading.Event()
        monkeypatch.setattr(server, "answer", lambda *_: (200, {}) if hold.wait(20) else None)
        monkeypatch.setattr(api_module, "REQUEST_SECONDS", 0.5)
        error = outcome(lambda: client.request("GET", "/x"))
        hold.set()
        assert "the answer is not complete after" in error.message
