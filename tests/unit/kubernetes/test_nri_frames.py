# SPDX-License-Identifier: Apache-2.0
"""The frames of NRI's connection."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cdi_gen.kubernetes.nri.frames import FrameError, Message, Reader, written

MESSAGES = some.lists(
    some.builds(
        Message,
        some.sampled_from((1, 2)),
        some.integers(0, 2**32 - 1),
        some.integers(0, 255),
        some.binary(max_size=10_000),
    ),
    max_size=4,
)


def test_a_message_has_the_bytes_that_the_sources_say() -> None:
    data = written(Message(2, 1, 1, b"abc"))
    assert data == bytes.fromhex("00000002 0000000d 00000003 00000001 01 00") + b"abc"


@given(MESSAGES, some.integers(1, 5000))
def test_messages_arrive_whole_however_the_socket_splits_them(
    messages: list[Message], size: int
) -> None:
    data = b"".join(map(written, messages))
    reader = Reader()
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    assert [message for part in parts for message in reader.feed(part)] == messages


def test_frames_are_short_enough_for_the_buffer_of_the_engine() -> None:
    data = written(Message(1, 1, 2, bytes(50_000)))
    lengths = []
    while data:
        _, length = struct.unpack_from(">II", data)
        lengths.append(length)
        data = data[8 + length :]
    assert max(lengths) == 4096
    assert sum(lengths) == 50_010


def test_other_connections_are_ignored() -> None:
    reader = Reader()
    foreign = struct.pack(">II", 3, 5) + b"other"
    assert list(reader.feed(foreign + written(Message(1, 3, 1, b"x")))) == [Message(1, 3, 1, b"x")]


@given(some.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    reader = Reader()
    with contextlib.suppress(FrameError):
        for message in reader.feed(data):
            assert len(message.payload) <= len(data)


@pytest.mark.parametrize("length", [(4 << 20) + 11, 2**32 - 1])
def test_the_length_of_a_frame_is_bounded(length: int) -> None:
    with pytest.raises(FrameError, match=str(length)):
        list(Reader().feed(struct.pack(">II", 1, length)))


def test_the_longest_message_is_read() -> None:
    message = Message(1, 1, 1, bytes(4 << 20))
    assert list(Reader().feed(written(message))) == [message]
