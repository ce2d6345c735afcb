# SPDX-License-Identifier: Apache-2.0
"""A minimal D-Bus client: calls a method of a peer and reads the strings in the reply.

It implements, of the D-Bus specification 0.43, the SASL exchange of a Unix socket and little-endian
messages of version 1. It writes the types s, o, g, b, u, a(…), and variants of them.
"""

from __future__ import annotations

import _struct as struct
import os

from cdi_base.errors import HookError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

MAX_MESSAGE = 1 << 20
MAX_LINE = 1024
MAX_SKIPPED = 256
"""The number of messages before the reply: systemd sends signals after it has been reloaded."""

_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_TO, _SIGNATURE = 1, 2, 3, 4, 5, 8
_FIXED = 16


class MessageError(HookError):
    """The peer has sent an error, or something that is not D-Bus.

    The message is a predicate, for a sentence whose subject is the peer.
    """

    code = "CDG-T203"


class Peer:
    """The process at the other end of a socket, without a message bus in between."""

    def __init__(self, connection: _socket.socket) -> None:
        """Authenticate as the user of this process.

        Raises:
            OSError: the connection breaks or times out.
            MessageError: the peer rejects the user.
        """
        self._connection = connection
        self._serial = 0
        user = str(os.geteuid()).encode("ascii").hex().encode("ascii")
        # Authentication and BEGIN in one piece, as systemd's own clients send them, but no call:
        # systemd 252 does not read a call that arrives together with BEGIN until more arrives.
        self._send(b"\0AUTH EXTERNAL " + user + b"\r\nBEGIN\r\n")
        line = b""
        while not line.endswith(b"\r\n"):
            piece = self._connection.recv(MAX_LINE)
            line += piece
            if not piece or len(line) > MAX_LINE:
                raise MessageError("does not speak D-Bus")
        if not line.startswith(b"OK "):
            raise MessageError(
                f"rejects the user: {shown(line.decode('ascii', 'replace').strip())}"
            )

    def call(
        self, path: str, interface: str, member: str, signature: str, values: Sequence[object]
    ) -> Reply:
        """Call a method, and wait for its reply.

        Raises:
            OSError: the connection breaks or times out.
            MessageError: the reply is an error.
        """
        self._serial += 1
        body = _Writer()
        body.put(signature, values)
        fields = [
            (_PATH, ("o", path)),
            (_INTERFACE, ("s", interface)),
            (_MEMBER, ("s", member)),
            (_SIGNATURE, ("g", signature)),
        ]
        head = _Writer()
        head.content += struct.pack("<cBBBII", b"l", _CALL, 0, 1, len(body.content), self._serial)
        head.put("a(yv)", (fields,))
        head.align(8)
        self._send(bytes(head.content + body.content))
        for _ in range(MAX_SKIPPED):
            kind, reply_fields, reply = self._message()
            if reply_fields.get(_REPLY_TO) != self._serial:
                continue
            if kind == _RETURN:
                return reply
            name = shown(str(reply_fields.get(_ERROR_NAME, "unknown")))
            raise MessageError(f"replies with the error {name}")
        raise MessageError("does not reply")

    def _message(self) -> tuple[int, dict[int, object], Reply]:
        start = self._receive(_FIXED)
        order, kind, _, version, size, _, fields_size = struct.unpack("<cBBBIII", start)
        padded = (fields_size + 7) & ~7
        if order != b"l" or version != 1 or size > MAX_MESSAGE or padded > MAX_MESSAGE:
            raise MessageError("does not speak little-endian D-Bus")
        fields = Reply(self._receive(padded)[:fields_size]).fields()
        return kind, fields, Reply(self._receive(size))

    def _send(self, content: bytes) -> None:
        self._connection.sendall(content)

    def _receive(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            piece = self._connection.recv(size - len(content))
            if not piece:
                raise MessageError("has closed the connection")
            content += piece
        return bytes(content)


class Reply:
    """Reads the values of a message, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def text(self) -> str:
        """Return the string in a variant."""
        self._expect("s")
        return self._text()

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of strings in a variant."""
        self._expect("a(ss)")
        size = self._number()
        self._align()
        end, pairs = self._position + size, []
        while self._position < end:
            self._align()
            pairs.append((self._text(), self._text()))
        return pairs

    def fields(self) -> dict[int, object]:
        """Return the fields of a header, which are strings and numbers, by their code."""
        fields: dict[int, object] = {}
        while self._position < len(self._content):
            self._align()
            code = self._take(1)[0]
            kind = self._signature()
            if kind == "u":
                fields[code] = self._number()
            elif kind in {"s", "o"}:
                fields[code] = self._text()
            elif kind == "g":
                fields[code] = self._signature()
            else:
                raise MessageError("sends a header field of an unknown type")
        return fields

    def _align(self) -> None:
        self._position = (self._position + 7) & ~7

    def _expect(self, signature: str) -> None:
        if self._signature() != signature:
            raise MessageError("sends a reply of another type")

    def _signature(self) -> str:
        return self._take(self._take(1)[0] + 1)[:-1].decode("ascii", "replace")

    def _text(self) -> str:
        return self._take(self._number() + 1)[:-1].decode("utf-8", "replace")

    def _number(self) -> int:
        self._position = (self._position + 3) & ~3
        return int(struct.unpack("<I", self._take(4))[0])

    def _take(self, size: int) -> bytes:
        piece = self._content[self._position : self._position + size]
        self._position += size
        if len(piece) != size:
            raise MessageError("sends a reply that is cut off")
        return piece


class _Writer:
    """Writes values, each aligned as its type requires."""

    def __init__(self) -> None:
        self.content = bytearray()

    def align(self, size: int) -> None:
        self.content += bytes(-len(self.content) % size)

    def put(self, signature: str, values: Sequence[object]) -> None:
        """Write one value for each type of a signature."""
        for kind, value in zip(_types(signature), values):
            self._put(kind, value)

    def _put(self, kind: str, value: object) -> None:
        if kind == "y" and isinstance(value, int):
            self.content.append(value)
        elif kind in {"b", "u"} and isinstance(value, int):
            self.align(4)
            self.content += struct.pack("<I", value)
        elif kind in {"s", "o"} and isinstance(value, str):
            text = os.fsencode(value)
            self.align(4)
            self.content += struct.pack("<I", len(text)) + text + b"\0"
        elif kind == "g" and isinstance(value, str):
            self.content += bytes((len(value),)) + value.encode("ascii") + b"\0"
        elif kind == "v" and isinstance(value, tuple):
            self._put("g", value[0])
            self._put(*value)
        elif kind[0] == "(" and isinstance(value, tuple):
            self.align(8)
            self.put(kind[1:-1], value)
        elif kind[0] == "a" and isinstance(value, list):
            self._put_array(kind[1:], value)
        else:
            raise TypeError(kind)

    def _put_array(self, kind: str, values: list[object]) -> None:
        self.align(4)
        size_position = len(self.content)
        self.content += bytes(4)
        # The size does not include the padding before the first item.
        self.align(8 if kind[0] == "(" else 4)
        start = len(self.content)
        for value in values:
            self._put(kind, value)
        struct.pack_into("<I", self.content, size_position, len(self.content) - start)


def _types(signature: str) -> list[str]:
    """Return the single types of a signature."""
    types, start = [], 0
    while start < len(signature):
        end = start
        while signature[end] == "a":
            end += 1
        depth = 0
        while True:
            depth += {"(": 1, ")": -1}.get(signature[end], 0)
            end += 1
            if depth == 0:
                break
        types.append(signature[start:end])
        start = end
    return types
