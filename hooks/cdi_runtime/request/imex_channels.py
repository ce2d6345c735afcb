# SPDX-License-Identifier: Apache-2.0
"""Reads numbers of IMEX channels, `/dev/nvidia-caps-imex-channels/channelN`, in a list of words."""

from __future__ import annotations

from cdi_base.errors import shown
from cdi_runtime.request.device_names import ALL, NONE, VOID, RequestError

MAX = (1 << 20) - 1
"""A number is the minor number of a device. NVIDIA's runtime before 1.20 did not check numbers."""


def channels(words: list[str], source: str) -> tuple[int, ...]:
    """Return the channels, each once, in their order.

    `void` or `none` anywhere means no channel; `all` is ignored.

    Raises:
        RequestError: a word is not a number, or not one that a channel can have.
    """
    if VOID in words or NONE in words:
        return ()
    return tuple(dict.fromkeys(_number(word, source) for word in words if word != ALL))


def _number(word: str, source: str) -> int:
    number = int(word) if len(word) <= 7 and word.isascii() and word.isdecimal() else -1
    if not 0 <= number <= MAX:
        raise RequestError(
            f"{source}: {shown(word)[:40]} is not a number from 0 to {MAX}", code="CDG-R107"
        )
    return number
