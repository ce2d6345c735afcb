# SPDX-License-Identifier: Apache-2.0
"""D-Bus by hand, against a peer that is none of systemd's: what is said, and what is not believed."""

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
    """An answer; one that is an error has a name."""
    fields = b"\5\1u\0" + struct.pack("<I", to)
    if kind == 3:
        name = b"org.example.Refused"
        fields += b"\4\1s\0" + struct.pack("<I", len(name)) + name + b"\0"
    head = struct.pack("<cBBBIII", order, kind, 0, 1, len(body), 7, len(fields))
    return head + fields + bytes(-len(fields) % 8) + body


def _text(value: bytes) -> bytes:
    return b"\1s\0\0" + struct.pack("<I", len(value)) + value + b"\0"


class Heard:
    """A peer that says something whatever it hears, and keeps that."""

    def __init__(self, *answers: bytes) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(1)
        self.said = b""
        self._answers = answers
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        for answer in self._answers:
            self.said += self._theirs.recv(1 << 16)
            self._theirs.sendall(answer)
        self._theirs.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        self.ours.close()
        self._thread.join()
        self._theirs.close()


Hears = Callable[..., Heard]


@pytest.fixture
def hears() -> Iterator[Hears]:
    known: list[Heard] = []

    def make(*answers: bytes) -> Heard:
        known.append(Heard(*answers))
        return known[-1]

    yield make
    for each in known:
        each.end()


def test_a_call_and_its_answer(hears: Hears) -> None:
    """Other messages come in between: a signal, and the answer to somebody else's call."""
    others = _message(b"", kind=4, to=0) + _message(_text(b"no"), to=9)
    peer = hears(HELLO, others + _message(_text(b"strict")))
    assert dbus.Peer(peer.ours).call(*CALL).text() == "strict"
    greeting = b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n"
    assert peer.said.startswith(greeting)
    assert peer.said[len(greeting) :] == (
        b"l\1\0\1\x0e\0\0\0\1\0\0\0\x68\0\0\0"
        b"\1\1o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0"
        b"\2\1s\0\x1f\0\0\0org.freedesktop.DBus.Properties\0"
        b"\3\1s\0\3\0\0\0Get\0\0\0\0\0"
        b"\x08\1g\0\2ss\0"
        b"\1\0\0\0a\0\0\0\1\0\0\0b\0"
    )


def test_pairs(hears: Hears) -> None:
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
    ("answers", "reason"),
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
def test_what_is_not_believed(hears: Hears, answers: tuple[bytes, ...], reason: str) -> None:
    peer = hears(*answers)
    with pytest.raises(MessageError, match=reason):
        dbus.Peer(peer.ours).call(*CALL).text()


def test_a_peer_that_says_nothing() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0.05)
    with theirs, ours, pytest.raises(socket.timeout):  # not TimeoutError before Python 3.10
        dbus.Peer(ours)


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("docker-0f.scope", "docker_2d0f_2escope"),
        ("0.scope", "_30_2escope"),
        ("a_b\N{LATIN SMALL LETTER E WITH ACUTE}", "a_5fb_c3_a9"),
    ],
)
def test_a_units_path(unit: str, path: str) -> None:
    assert systemd.escaped(unit) == path


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "RUNNING", "/nowhere")
    assert systemd.allow("a.scope", [Rule("c", 1, 3, "r")]) is False


def test_a_systemd_that_is_not_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setattr(systemd, "RUNNING", str(tmp_path))
    monkeypatch.setattr(systemd, "SOCKET", f"{tmp_path}/private")
    with pytest.raises(HookError, match=os.strerror(errno.ENOENT)):
        systemd.allow("a.scope", [Rule("c", 1, 3, "r")])
