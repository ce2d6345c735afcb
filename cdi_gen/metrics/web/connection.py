# SPDX-License-Identifier: Apache-2.0
"""Speaks HTTP/1.1 with one client: reads its requests within limits, and writes the responses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

import h11

from cdi_gen.metrics.web import messages
from cdi_gen.metrics.web.messages import Request, Response

MAX_HEADER_BYTES = 16 << 10
PIECE = 32 << 10
"""Bytes that are written at once: what is kept in memory for a client that does not read."""


class Limits(NamedTuple):
    """Seconds that a client may take."""

    request: float = 10.0
    """From the connection, or from the first byte of a further request, to the end of the header;
    for TLS also the handshake."""
    idle: float = 300.0
    """Between two requests."""
    response: float = 30.0
    """To read the response."""


class Streams(NamedTuple):
    """The two directions of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


Answer = Callable[[Request], Awaitable[Response]]


class Connection:
    """A client that is connected."""

    def __init__(
        self,
        streams: Streams,
        answer: Answer,
        limits: Limits,
    ) -> None:
        self._reader, self._writer = streams
        self._answer = answer
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self.is_idle = True
        """Whether the client has sent nothing since it connected or got the last response."""
        self.is_closing = False
        """Whether the connection ends after the response."""

    async def serve(self) -> None:
        """Answer requests until the client or a limit ends the connection."""
        transport = self._writer.transport
        transport.set_write_buffer_limits(high=PIECE)
        try:
            await self._serve()
        except (OSError, asyncio.TimeoutError, h11.LocalProtocolError):
            # The client is gone, or too slow. What it has not read is dropped.
            transport.abort()
        except BaseException:
            transport.abort()
            raise

    async def _serve(self) -> None:
        is_first = True
        while not self.is_closing:
            try:
                request = await self._request(is_first=is_first)
            except h11.RemoteProtocolError as error:
                await self._refuse(error)
                return
            if request is None:
                return
            self.is_idle = False
            response = await self._answer(request)
            await asyncio.wait_for(self._send(request, response), self._limits.response)
            self.is_idle, is_first = True, False
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self, *, is_first: bool) -> Request | None:
        """Return the next request; None if the client has ended the connection."""
        begun = time.monotonic()
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                # Also the end of a request without a body; a body is not read.
                self._http.next_event()
                return messages.request(event.method, event.target, event.headers)
            if event is not h11.NEED_DATA:
                return None
            is_waiting = self.is_idle and not is_first
            limit = self._limits.idle if is_waiting else self._limits.request
            data = await asyncio.wait_for(
                self._reader.read(PIECE), max(0.0, begun + limit - time.monotonic())
            )
            if is_waiting:
                begun = time.monotonic()
            self.is_idle = self.is_idle and not data
            self._http.receive_data(data)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Say why a request cannot be understood, and end the connection."""
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            status = HTTPStatus(error.error_status_hint)
            response = self._send(Request(b"GET", b"", {}), messages.text(status))
            await asyncio.wait_for(response, self._limits.response)

    async def _send(self, request: Request, response: Response) -> None:
        length = sum(map(len, response.body))
        headers = [*response.headers]
        headers.append(("Content-Length", str(length)))
        if self._http.their_state is not h11.DONE:
            self.is_closing = True  # the rest of the request is not read
        if self.is_closing:
            headers.append(("Connection", "close"))
        head = h11.Response(
            status_code=response.status, reason=response.status.phrase, headers=headers
        )
        pieces = bytearray(self._http.send(head) or b"")
        for part in response.body if request.method != b"HEAD" else ():
            for offset in range(0, len(part), PIECE):
                pieces += self._http.send(h11.Data(data=part[offset : offset + PIECE])) or b""
                if len(pieces) >= PIECE:
                    await self._write(bytes(pieces))
                    pieces.clear()
        pieces += self._http.send(h11.EndOfMessage()) or b""
        await self._write(bytes(pieces))

    async def _write(self, data: bytes) -> None:
        """Write data; wait until most of it is with the kernel."""
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """End the connection now if it is idle; after its response otherwise."""
        self.is_closing = True
        if self.is_idle:
            self._writer.transport.abort()
