# SPDX-License-Identifier: Apache-2.0
"""Numbers of IMEX channels, `/dev/nvidia-caps-imex-channels/channelN`, in a list of words."""

from __future__ import annotations

from cdi_base.errors import shown
from cdi_runtime.request.device_names import ALL, NONE, VOID, RequestError

MAX = (1 << 20) - 1
"""A number is a minor of a device: the peer before 1.20 made paths of whatever came."""


def channels(words: list[str], source: str) -> tuple[int, ...]:
    """The channels, each once, in their order; `void` and `none` ask for none, `all` for nothing.

    Raises:
        RequestError: a word is no number, or no channel has it.
    """
    if VOID in words or NONE in words:
        return ()
    return tuple(dict.fromkeys(_number(word, source) for word in words if word != ALL))


def _number(word: str, source: str) -> int:
    number = int(word) if len(word) <= 7 and word.isascii() and word.isdecimal() else -1
    if not 0 <= number <= MAX:
        raise RequestError(
            f"{source}: {shown(word)[:40]} is no number from 0 to {MAX}", code="CDG-R107"
        )
    return number
