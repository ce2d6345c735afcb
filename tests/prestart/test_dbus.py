# SPDX-License-Identifier: Apache-2.0
"""The D-Bus client against a peer of the test: what it sends, and which replies it rejects."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from cdi_base.errors import HookError
from cdi_runtime.prestart import dbus, systemd
from cdi_runtime.prestart.dbus import MessageError
from cdi_runtime.prestart.device_filter import Rule

HELLO = b"OK 830eba56fb474c4b9e9137fe1c0786c5\r\n"
CALL = ("/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties", "Get", "ss", ("a", "b"))


def _message(body: bytes, *, kind: int = 2, to: int = 1, order: bytes = b"l") -> bytes:
    """A reply; an error has a name."""
    fields = b"\5\1u\0" + struct.pack("<I", to)
    if kind == 3:
        name = b"org.example.Refused"
        fields += b"\4\1s\0" + struct.pack("<I", len(name)) + name + b"\0"
    head = struct.pack("<cBBBIII", order, kind, 0, 1, len(body), 7, len(fields))
    return head + fields + bytes(-len(fields) % 8) + body


def _text(value: bytes) -> bytes:
    return b"\1s\0\0" + struct.pack("<I", len(value)) + value + b"\0"


class RecordingPeer:
    """A peer that sends prepared replies, and records what it receives."""

    def __init__(self, *replies: bytes) -> None:
        self.own_end, self._other_end = socket.socketpair()
        self.own_end.settimeout(1)
        self.received = b""
        self._replies = replies
        self._thread = threading.Thread(target=self._reply)
        self._thread.start()

    def _reply(self) -> None:
        for reply in self._replies:
            self.received += self._other_end.recv(1 << 16)
            self._other_end.sendall(reply)
        self._other_end.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        self.own_end.close()
        self._thread.join()
        self._other_end.close()


MakePeer = Callable[..., RecordingPeer]


@pytest.fixture
def make_peer() -> Iterator[MakePeer]:
    peers: list[RecordingPeer] = []

    def make(*replies: bytes) -> RecordingPeer:
        peers.append(RecordingPeer(*replies))
        return peers[-1]

    yield make
    for peer in peers:
        peer.end()


def test_reply_is_found_among_other_messages(make_peer: MakePeer) -> None:
    """Other messages arrive before: a signal, and the reply to another call."""
    others = _message(b"", kind=4, to=0) + _message(_text(b"no"), to=9)
    peer = make_peer(HELLO, others + _message(_text(b"strict")))
    assert dbus.Peer(peer.own_end).call(*CALL).text() == "strict"
    greeting = b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n"
    assert peer.received.startswith(greeting)
    assert peer.received[len(greeting) :] == (
        b"l\1\0\1\x0e\0\0\0\1\0\0\0\x68\0\0\0"
        b"\1\1o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0"
        b"\2\1s\0\x1f\0\0\0org.freedesktop.DBus.Properties\0"
        b"\3\1s\0\3\0\0\0Get\0\0\0\0\0"
        b"\x08\1g\0\2ss\0"
        b"\1\0\0\0a\0\0\0\1\0\0\0b\0"
    )


def test_pairs_of_strings_are_read(make_peer: MakePeer) -> None:
    items = b"".join(
        struct.pack("<I", len(name))
        + name
        + b"\0"
        + bytes(-(len(name) + 5) % 4)
        + b"\2\0\0\0rw\0\0"
        for name in (b"/dev/a/b", b"/dev/cd/")
    )
    body = b"\5a(ss)\0\0" + struct.pack("<I", len(items) - 1) + bytes(4) + items[:-1]
    assert dbus.Reply(body[:8] + body[8:]).pairs() == [("/dev/a/b", "rw"), ("/dev/cd/", "rw")]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ((b"REJECTED EXTERNAL\r\n",), "REJECTED"),
        ((b"",), "does not speak"),
        ((b"x" * 2000,), "does not speak"),
        ((HELLO,), "has closed the connection"),
        ((HELLO, _message(b"", kind=3)), "org.example.Refused"),
        ((HELLO, _message(b"", order=b"B")), "little-endian"),
        ((HELLO, _message(_text(b"strict"))[:-3]), "has closed the connection"),
        ((HELLO, _message(b"\1u\0\0\7\0\0\0")), "another type"),
        ((HELLO, _message(b"\1s\0\0\xff\xff\0\0x")), "cut off"),
        (
            (HELLO, _message(b"") * 0 + struct.pack("<cBBBIII", b"l", 2, 0, 1, 1 << 30, 1, 8)),
            "little",
        ),
        ((HELLO, _message(b"", kind=4, to=0) * 300), "does not reply"),
    ],
)
def test_invalid_reply_is_an_error(
    make_peer: MakePeer, replies: tuple[bytes, ...], reason: str
) -> None:
    peer = make_peer(*replies)
    with pytest.raises(MessageError, match=reason):
        dbus.Peer(peer.own_end).call(*CALL).text()


def test_silent_peer_is_a_time_out() -> None:
    own_end, other_end = socket.socketpair()
    own_end.settimeout(0.05)
    with other_end, own_end, pytest.raises(socket.timeout):  # not TimeoutError before Python 3.10
        dbus.Peer(own_end)


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("docker-0f.scope", "docker_2d0f_2escope"),
        ("0.scope", "_30_2escope"),
        ("a_b\N{LATIN SMALL LETTER E WITH ACUTE}", "a_5fb_c3_a9"),
    ],
)
def test_unit_name_is_escaped_in_an_object_path(unit: str, path: str) -> None:
    assert systemd.escaped(unit) == path


def test_nothing_is_added_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "RUNNING", "/nowhere")
    assert systemd.allow("a.scope", [Rule("c", 1, 3, "r")]) is False


def test_unreachable_systemd_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setattr(systemd, "RUNNING", str(tmp_path))
    monkeypatch.setattr(systemd, "SOCKET", f"{tmp_path}/private")
    with pytest.raises(HookError, match=os.strerror(errno.ENOENT)):
        systemd.allow("a.scope", [Rule("c", 1, 3, "r")])
