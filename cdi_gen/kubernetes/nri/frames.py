# SPDX-License-Identifier: Apache-2.0
"""Reads and writes the frames of NRI's connection.

A socket carries several logical connections. A frame has the number of its connection, its length
and a part of that connection's bytes; those are messages of ttrpc, which may be spread over several
frames. All numbers are big-endian.

Sources: github.com/containerd/nri, pkg/net/multiplex; github.com/containerd/ttrpc, PROTOCOL.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.errors import CdiGenError

PLUGIN = 1
"""The connection on which the engine calls the plugin."""
RUNTIME = 2
"""The connection on which the plugin calls the engine."""

REQUEST = 1
RESPONSE = 2

MAX_MESSAGE_BYTES = 4 << 20
"""ttrpc's limit; the engine spreads longer lists of pods over several messages."""

_FRAME = struct.Struct(">II")
_MESSAGE = struct.Struct(">IIBB")
_MAX_FRAME_BYTES = MAX_MESSAGE_BYTES + _MESSAGE.size
_WRITTEN_FRAME_BYTES = 4096
"""The engine reads into a buffer of this size, and ends a connection with longer frames."""


class FrameError(CdiGenError):
    """The engine's bytes are not frames of NRI."""

    code = "CDG-N604"


class Message(NamedTuple):
    """A message of ttrpc.

    Attributes:
        connection: `PLUGIN` or `RUNTIME`.
        stream: the number that a request and its response share.
        kind: `REQUEST`, `RESPONSE`, or another kind that NRI does not use.
        payload: the serialized request or response.
    """

    connection: int
    stream: int
    kind: int
    payload: bytes


class Reader:
    """Puts messages together from the bytes of a socket. It holds three messages at most."""

    def __init__(self) -> None:
        self._trunk = bytearray()
        self._connections = {PLUGIN: bytearray(), RUNTIME: bytearray()}

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes, and return the messages that are complete now.

        Raises:
            FrameError: a frame or a message is longer than the limit.
        """
        self._trunk += data
        while len(self._trunk) >= _FRAME.size:
            number, length = _FRAME.unpack_from(self._trunk)
            if length > _MAX_FRAME_BYTES:
                raise FrameError(f"the engine announces a frame of {length} bytes")
            end = _FRAME.size + length
            if len(self._trunk) < end:
                return
            content = bytes(self._trunk[_FRAME.size : end])
            del self._trunk[:end]
            if number in self._connections:  # others are reserved
                yield from self._messages(number, content)

    def _messages(self, number: int, content: bytes) -> Iterator[Message]:
        buffer = self._connections[number]
        buffer += content
        while len(buffer) >= _MESSAGE.size:
            length, stream, kind, _flags = _MESSAGE.unpack_from(buffer)
            if length > MAX_MESSAGE_BYTES:
                raise FrameError(f"the engine announces a message of {length} bytes")
            end = _MESSAGE.size + length
            if len(buffer) < end:
                return
            payload = bytes(buffer[_MESSAGE.size : end])
            del buffer[:end]
            yield Message(number, stream, kind, payload)


def written(message: Message) -> bytes:
    """Return the bytes of a message, in frames."""
    content = _MESSAGE.pack(len(message.payload), message.stream, message.kind, 0) + message.payload
    return b"".join(
        _FRAME.pack(message.connection, len(part)) + part
        for start in range(0, len(content), _WRITTEN_FRAME_BYTES)
        for part in (content[start : start + _WRITTEN_FRAME_BYTES],)
    )
