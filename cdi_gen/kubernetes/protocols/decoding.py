# SPDX-License-Identifier: Apache-2.0
"""Reads messages of the protocols from bytes that another program sent."""

from __future__ import annotations

from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from cdi_gen.errors import CdiGenError

M_co = TypeVar("M_co", covariant=True)


class MessageError(CdiGenError):
    """Bytes are not a message of the expected type."""

    code = "CDG-N604"


class MessageType(Protocol[M_co]):
    """A generated class."""

    def FromString(self, data: bytes) -> M_co:  # noqa: N802 - protobuf's name
        """Return the message that the bytes are."""


def decode(message_type: MessageType[M_co], data: bytes) -> M_co:
    """Return the message that the bytes are.

    Raises:
        MessageError: they are not a message of the type.
    """
    try:
        return message_type.FromString(data)
    except DecodeError as error:
        raise MessageError(f"not a valid message: {error}") from error
