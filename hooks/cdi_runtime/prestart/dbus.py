# SPDX-License-Identifier: Apache-2.0
"""As much of D-Bus as it takes to call a method of a peer and to read a text in its answer.

D-Bus specification 0.43: the SASL exchange of a Unix socket, messages of version 1, little-endian.
Types that are written: s, o, g, b, u, a(…), and variants of them.
"""

from __future__ import annotations

import os
import struct

from cdi_base.errors import HookError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

MAX_MESSAGE = 1 << 20
MAX_LINE = 1024
MAX_SKIPPED = 256
"""Messages that are no answer: a manager that has just been reloaded tells everybody so."""

_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_TO, _SIGNATURE = 1, 2, 3, 4, 5, 8
_FIXED = 16


class MessageError(HookError):
    """The peer has answered with an error, or with what is no D-Bus."""

    code = "CDG-T203"


class Peer:
    """One at the other end of a socket, with no message bus between."""

    def __init__(self, connection: _socket.socket) -> None:
        """Say who we are.

        Raises:
            OSError: the connection breaks, or its time is over.
            MessageError: it will not talk with this user.
        """
        self._connection = connection
        self._serial = 0
        user = str(os.geteuid()).encode("ascii").hex().encode("ascii")
        # All at once, as systemd's own clients do: of what comes together with BEGIN, and behind
        # it, a systemd of 252 takes no notice until more comes.
        self._send(b"\0AUTH EXTERNAL " + user + b"\r\nBEGIN\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            piece = self._connection.recv(MAX_LINE)
            answer += piece
            if not piece or len(answer) > MAX_LINE:
                raise MessageError("it does not speak D-Bus")
        if not answer.startswith(b"OK "):
            raise MessageError(f"it says {shown(answer.decode('ascii', 'replace').strip())}")

    def call(
        self, path: str, interface: str, member: str, signature: str, values: Sequence[object]
    ) -> Answer:
        """Call a method, and wait for its answer.

        Raises:
            OSError: the connection breaks, or its time is over.
            MessageError: the answer is an error.
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
            kind, fields_there, answer = self._message()
            if fields_there.get(_REPLY_TO) != self._serial:
                continue
            if kind == _RETURN:
                return answer
            raise MessageError(shown(str(fields_there.get(_ERROR_NAME, "an error"))))
        raise MessageError("it does not answer")

    def _message(self) -> tuple[int, dict[int, object], Answer]:
        start = self._receive(_FIXED)
        order, kind, _, version, size, _, of_fields = struct.unpack("<cBBBIII", start)
        padded = (of_fields + 7) & ~7
        if order != b"l" or version != 1 or size > MAX_MESSAGE or padded > MAX_MESSAGE:
            raise MessageError("it does not speak little-endian D-Bus")
        fields = Answer(self._receive(padded)[:of_fields]).fields()
        return kind, fields, Answer(self._receive(size))

    def _send(self, content: bytes) -> None:
        self._connection.sendall(content)

    def _receive(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            piece = self._connection.recv(size - len(content))
            if not piece:
                raise MessageError("it has hung up")
            content += piece
        return bytes(content)


class Answer:
    """The values of a message, to be read one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def text(self) -> str:
        """The text in a variant."""
        self._expect("s")
        return self._text()

    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of texts in a variant."""
        self._expect("a(ss)")
        size = self._number()
        self._at = (self._at + 7) & ~7
        end, found = self._at + size, []
        while self._at < end:
            self._at = (self._at + 7) & ~7
            found.append((self._text(), self._text()))
        return found

    def fields(self) -> dict[int, object]:
        """The fields of a header: those that are text or a number."""
        found: dict[int, object] = {}
        while self._at < len(self._content):
            self._at = (self._at + 7) & ~7
            code = self._take(1)[0]
            kind = self._signature()
            if kind == "u":
                found[code] = self._number()
            elif kind in {"s", "o"}:
                found[code] = self._text()
            elif kind == "g":
                found[code] = self._signature()
            else:
                raise MessageError("its header has a field of no type that is known")
        return found

    def _expect(self, signature: str) -> None:
        if self._signature() != signature:
            raise MessageError("its answer is of another type")

    def _signature(self) -> str:
        return self._take(self._take(1)[0] + 1)[:-1].decode("ascii", "replace")

    def _text(self) -> str:
        return self._take(self._number() + 1)[:-1].decode("utf-8", "replace")

    def _number(self) -> int:
        self._at = (self._at + 3) & ~3
        return int(struct.unpack("<I", self._take(4))[0])

    def _take(self, size: int) -> bytes:
        piece = self._content[self._at : self._at + size]
        self._at += size
        if len(piece) != size:
            raise MessageError("its answer is cut off")
        return piece


class _Writer:
    """Values, each where its type has to begin."""

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
        place = len(self.content)
        self.content += bytes(4)
        # The padding before the first item does not count.
        self.align(8 if kind[0] == "(" else 4)
        start = len(self.content)
        for value in values:
            self._put(kind, value)
        struct.pack_into("<I", self.content, place, len(self.content) - start)


def _types(signature: str) -> list[str]:
    """The single types of a signature."""
    found, at = [], 0
    while at < len(signature):
        end = at
        while signature[end] == "a":
            end += 1
        depth = 0
        while True:
            depth += {"(": 1, ")": -1}.get(signature[end], 0)
            end += 1
            if depth == 0:
                break
        found.append(signature[at:end])
        at = end
    return found
