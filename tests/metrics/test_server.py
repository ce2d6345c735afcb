# SPDX-License-Identifier: Apache-2.0
"""The HTTP server with clients that are slow, many, or send what no client should."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import pytest

from cdi_gen.metrics.web.connection import Limits
from tests.metrics.serving import (
    LARGE,
    PAGE,
    PATIENCE,
    Running,
    exchange,
    get,
    read_answer,
    read_to_end,
    request,
    running,
)

QUICK = Limits(request=0.2, idle=0.2, response=0.2)


def test_a_page_is_served() -> None:
    with running() as server:
        answer = get(server.port)
    assert answer.status == 200
    assert answer.body == PAGE
    assert answer.headers["Content-Length"] == str(len(PAGE))


def test_a_connection_serves_several_requests() -> None:
    with running() as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        for path, status in (("/metrics", 200), ("/none", 404), ("/metrics", 200)):
            connection.request("GET", path)
            connected = connection.sock
            assert read_answer(connection.getresponse()).status == status
            assert connection.sock is connected
        connection.close()


def test_pipelined_requests_are_answered_in_order() -> None:
    with running() as server, server.connect() as client:
        two = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        received = exchange(client, two)
    first, second = received.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"404")
    assert second.startswith(b"200")
    assert second.endswith(PAGE)


def test_http_1_0_is_answered() -> None:
    with running() as server, server.connect() as client:
        assert exchange(client, b"GET /metrics HTTP/1.0\r\n\r\n").endswith(PAGE)


def test_head_has_the_header_only() -> None:
    with running() as server, server.connect() as client:
        head = b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        received = exchange(client, head)
    assert f"content-length: {len(PAGE)}".encode() in received.lower()
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["TRACE", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "X"])
def test_other_methods_are_refused(method: str) -> None:
    with running() as server, server.connect() as client:
        received = exchange(
            client, f"{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
    assert received.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in received


@pytest.mark.parametrize(
    "path",
    [
        *("/../etc/passwd", "//metrics", "/metrics/", "/%6detrics", "/metrics/../metrics"),
        *("/metrics%00", "/METRICS", "/./metrics", "*", "/etc/passwd"),
    ],
)
def test_no_other_path_leads_anywhere(path: str) -> None:
    with running() as server:
        assert get(server.port, path).status == 404


def test_a_query_and_an_absolute_address_are_understood() -> None:
    with running() as server:
        assert get(server.port, "/metrics?collect[]=x").body == PAGE
        assert get(server.port, "http://example.com/metrics?x").body == PAGE


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(b"GET /metrics\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400, id="space"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400, id="zero byte"),
        pytest.param(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            id="two lengths",
        ),
        pytest.param(b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n", 431, id="long path"),
        pytest.param(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10_000, 431, id="many headers"
        ),
    ],
)
def test_what_is_not_a_request_is_refused(request_: bytes, status: int) -> None:
    with running() as server, server.connect() as client:
        received = exchange(client, request_)
        assert received.startswith(f"HTTP/1.1 {status} ".encode())
        assert get(server.port).body == PAGE


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_the_body_of_a_request_is_not_read(framing: str) -> None:
    with running() as server, server.connect() as client:
        head = f"GET /metrics HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"
        received = exchange(client, head.encode())
    assert received.endswith(PAGE)
    assert b"\r\nConnection: close\r\n" in received


def test_a_line_break_in_a_request_makes_no_header() -> None:
    with running() as server, server.connect() as client:
        received = exchange(client, b"GET /%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")  # fmt: skip
    assert received.startswith(b"HTTP/1.1 404 ")
    assert b"set-cookie" not in received.lower()


def test_a_page_that_fails_ends_neither_the_connection_nor_the_server() -> None:
    with running() as server:
        assert get(server.port, "/broken").status == 500
        assert get(server.port).status == 200
    (finding,) = server.findings
    assert finding.code == "CDG-X001"
    assert "ZeroDivisionError: made by a test" in finding.message


@pytest.mark.parametrize(
    "data",
    [b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "half a line", "half a header"],
)
def test_a_slow_client_is_disconnected(data: bytes) -> None:
    with running(limits=QUICK) as server, server.connect() as client:
        assert exchange(client, data) == b""


def test_a_client_that_sends_a_byte_now_and_then_is_disconnected() -> None:
    with running(limits=QUICK) as server, server.connect() as client:
        client.settimeout(0.05)
        while not is_disconnected(client):
            with suppress(OSError):
                client.sendall(b"G")


def is_disconnected(client: socket.socket) -> bool:
    """Whether the server has ended the connection; an answer is none."""
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_an_idle_client_is_disconnected() -> None:
    with running(limits=QUICK) as server, server.connect() as client:
        received = exchange(client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert received.endswith(PAGE)


def slow_reader(server: Running) -> socket.socket:
    """A client for which the kernel keeps little, and that has asked for a large page."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", server.port))
    client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    return client


def test_a_client_that_does_not_read_is_disconnected() -> None:
    with running(limits=QUICK) as server, slow_reader(server) as client:
        assert get(server.port).body == PAGE
        server.server.stop(PATIENCE)  # waits for the connection
        assert len(read_to_end(client)) < LARGE * len(PAGE)


def test_a_scrape_succeeds_while_500_connections_are_idle() -> None:
    with running() as server, ExitStack() as clients:
        for _ in range(500):
            clients.enter_context(server.connect())
        assert get(server.port).body == PAGE


def test_a_new_client_displaces_the_one_that_is_idle_longest() -> None:
    with running(max_connections=3) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        assert [request(client, "/none").status for client in clients] == [404, 404, 404]
        assert get(server.port).body == PAGE
        assert read_to_end(clients[0]) == b""
        assert [request(client, "/none").status for client in clients[1:]] == [404, 404]


def test_idle_clients_are_disconnected_at_the_end() -> None:
    with running() as server, server.connect() as client:
        assert request(client, "/none").status == 404
        server.server.stop(PATIENCE)
        assert read_to_end(client) == b""
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_a_response_that_is_being_read_is_completed_at_the_end() -> None:
    with running() as server, slow_reader(server) as client:
        begin = client.recv(1)
        stopping = threading.Thread(target=server.server.stop, args=(PATIENCE,))
        stopping.start()
        received = begin + read_to_end(client)
        stopping.join()
    assert received.endswith(PAGE)
    assert len(received) > LARGE * len(PAGE)


def test_ipv6_and_several_listeners() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with running("[::1]:0", "127.0.0.1:0", ":0") as server:
        six, four, both = (address.port for address in server.addresses)
        assert get(six, host="::1").body == PAGE
        assert get(four).body == PAGE
        assert get(both).body == PAGE
        assert get(both, host="::1").body == PAGE
        with pytest.raises(ConnectionRefusedError):
            get(six)
