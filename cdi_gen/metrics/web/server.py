# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: accepts connections, checks who may read, and has requests answered.

One thread serves all connections, so that many idle ones cost little. If there are too many, one of
the client with the most is closed: a new client is always served.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from cdi_base.findings import Finding
from cdi_gen.metrics.web import messages, tls
from cdi_gen.metrics.web.config_file import WebConfig, WebConfigError
from cdi_gen.metrics.web.connection import PIECE, Connection, Limits, Streams
from cdi_gen.metrics.web.listeners import Listener
from cdi_gen.metrics.web.messages import Request, Response
from cdi_gen.metrics.web.passwords import Passwords, credentials
from cdi_gen.metrics.web.rate import TokenBucket
from cdi_gen.metrics.web.web_config import WebConfigFile, WebSettings

MAX_CONNECTIONS = 512

RETRY_SECONDS = 0.1
"""Between two attempts to accept a connection while the process has no free descriptor."""

CLOSING_SECONDS = 1.0

Answer = Callable[[Request], Response]


class Server:
    """Serves in a thread of its own.

    Args:
        listeners: where; `stop` closes them.
        web_config: who may read.
        answer: gives the response to a request that is allowed; it must be fast.
        report: prints a finding.
        limits: the seconds that a client may take.
        max_connections: the number of connections at the same time.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        web_config: WebConfigFile,
        answer: Answer,
        report: Callable[[Finding], None],
        *,
        limits: Limits = Limits(),  # noqa: B008 - a tuple
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._listeners = listeners
        self._web_config = web_config
        self._answer = answer
        self._report = report
        self._limits = limits
        self._max_connections = max_connections
        self._passwords = Passwords()
        rate_limit = web_config.current().config.rate_limit
        self._bucket = TokenBucket(rate_limit) if rate_limit else None
        """As in exporter-toolkit, it does not change while the program runs."""
        self._clients: dict[asyncio.Task[None], _Client] = {}
        """The oldest first."""
        self._web_config_error = ""
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # of transports: TLS that fails
        self._is_stopping = asyncio.Event()
        self._grace = 0.0
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._heartbeat = time.monotonic()

    @property
    def heartbeat(self) -> float:
        """When the server last ran, of the monotonic clock."""
        return self._heartbeat

    def start(self) -> None:
        """Accept connections from now on."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Accept no further connection, and let running responses end for so long."""
        self._grace = seconds
        # The loop is closed if it was stopped before.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._is_stopping.set)
        self._thread.join(seconds + CLOSING_SECONDS)

    def reload(self) -> None:
        """Read the web configuration, and report whether it is valid. Requests do that too."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settings)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._passwords.close()
            for listener in self._listeners:
                listener.close()
            self._loop.close()

    async def _serve(self) -> None:
        tasks = [asyncio.ensure_future(self._accept(one.socket)) for one in self._listeners]
        tasks.append(asyncio.ensure_future(self._beat()))
        await self._is_stopping.wait()
        for task in tasks:
            task.cancel()
        for client in self._clients.values():
            client.close()
        if self._clients:
            await asyncio.wait(self._clients, timeout=self._grace)
        remaining = [*self._clients]
        for task in remaining:
            task.cancel()
        await asyncio.gather(*tasks, *remaining, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            self._heartbeat = time.monotonic()
            await asyncio.sleep(1)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, location = await self._loop.sock_accept(listener)
            except OSError:
                # No free descriptor, or the client has gone. An idle client is closed for it.
                self._evict()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if len(self._clients) >= self._max_connections:
                self._evict()
            client = _Client(connection, str(location[0]) if location else "")
            task = self._loop.create_task(self._converse(client))
            self._clients[task] = client
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        client = self._clients.pop(task, None)
        if client is not None:
            client.close()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._report(internal_error(error))

    def _evict(self) -> None:
        """Close a connection of the address with the most: an idle one, and of those the oldest."""
        if not self._clients:
            return
        (address, _), *_ = Counter(one.address for one in self._clients.values()).most_common(1)
        candidates = [(t, one) for t, one in self._clients.items() if one.address == address]
        task, client = next((pair for pair in candidates if pair[1].is_idle), candidates[0])
        # It counts no longer, although it may take a moment to end.
        del self._clients[task]
        client.close()
        task.cancel()

    async def _converse(self, client: _Client) -> None:
        """Serve a client until it or a limit ends the connection."""
        settings = self._settings()
        if settings is None and self._web_config.has_tls:
            return  # as exporter-toolkit: no handshake without a valid configuration
        try:
            async with client.opened(self._loop, settings, self._limits.request) as streams:
                if settings is None or _is_allowed(settings.config, streams.writer):
                    client.connection = Connection(streams, self._respond, self._limits)
                    await client.connection.serve()
        except (OSError, asyncio.TimeoutError):
            # No TLS, or a certificate that is refused, or the client has gone.
            return

    def _settings(self) -> WebSettings | None:
        """Return the web configuration; None if it is not valid, which is reported once."""
        try:
            settings = self._web_config.current()
        except WebConfigError as error:
            if error.message != self._web_config_error:
                self._web_config_error = error.message
                self._report(error.finding)
            return None
        self._web_config_error = ""
        return settings

    async def _respond(self, request: Request) -> Response:
        """Answer a request, if the web configuration allows it."""
        settings = self._settings()
        if settings is None:
            return messages.text(HTTPStatus.INTERNAL_SERVER_ERROR)
        if self._bucket is not None and not self._bucket.take():
            return messages.text(HTTPStatus.TOO_MANY_REQUESTS)
        if await self._is_authenticated(request, settings.config):
            response = self._answered(request)
        else:
            response = messages.text(HTTPStatus.UNAUTHORIZED, "", ("WWW-Authenticate", "Basic"))
        return response._replace(headers=(*response.headers, *settings.config.headers.items()))

    async def _is_authenticated(self, request: Request, config: WebConfig) -> bool:
        if not config.users:
            return True
        given = credentials(request.header(b"authorization"))
        return given is not None and await self._passwords.are_valid(given, config.users)

    def _answered(self, request: Request) -> Response:
        if request.method not in {b"GET", b"HEAD"}:
            return messages.text(HTTPStatus.METHOD_NOT_ALLOWED, "", ("Allow", "GET, HEAD"))
        try:
            return self._answer(request)
        except Exception as error:  # noqa: BLE001 - a page that fails ends no other
            self._report(internal_error(error))
            return messages.text(HTTPStatus.INTERNAL_SERVER_ERROR)


class _Client:
    """A connection, from the time when it is accepted."""

    def __init__(self, accepted: socket.socket, address: str) -> None:
        self._socket = accepted
        self._is_closed_elsewhere = False
        self.address = address
        self.connection: Connection | None = None
        """None while the TLS handshake goes on."""

    @property
    def is_idle(self) -> bool:
        """Whether the client has sent no request that is not answered."""
        return self.connection is None or self.connection.is_idle

    @asynccontextmanager
    async def opened(
        self, loop: asyncio.AbstractEventLoop, settings: WebSettings | None, seconds: float
    ) -> AsyncIterator[Streams]:
        """Yield the streams of the connection, after the TLS handshake if there is TLS."""
        # From here on the transport closes the socket, whatever happens.
        self._is_closed_elsewhere = True
        reader = asyncio.StreamReader(limit=PIECE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.wait_for(
            loop.connect_accepted_socket(
                lambda: protocol, self._socket, ssl=settings.tls if settings else None
            ),
            seconds,
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            yield Streams(reader, writer)
            # Python 3.11 fails to abort a transport of TLS that was closed twice.
            if not transport.is_closing():
                writer.close()
            # Not for long: the client may not take part in the end of TLS.
            await asyncio.wait_for(writer.wait_closed(), CLOSING_SECONDS)
        finally:
            transport.abort()

    def close(self) -> None:
        """End the connection now if it is idle, after the response otherwise."""
        if not self._is_closed_elsewhere:
            self._socket.close()
        if self.connection is not None:
            self.connection.close()


def _is_allowed(config: WebConfig, writer: asyncio.StreamWriter) -> bool:
    """Whether the certificate of a client has a name that the web configuration allows."""
    if config.tls is None or not config.tls.client_allowed_sans:
        return True
    certificate = writer.get_extra_info("peercert") or {}
    return not set(config.tls.client_allowed_sans).isdisjoint(tls.names_of(certificate))


def internal_error(error: BaseException) -> Finding:
    """Return the finding about an error that the code does not expect."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" in {frame.name}, line {frame.lineno}" for frame in place)
    return Finding("CDG-X001", "error", f"internal error: {type(error).__name__}: {error}{where}")
