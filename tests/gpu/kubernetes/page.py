# SPDX-License-Identifier: Apache-2.0
"""What the parts write: how pods ended, how fast they computed; and what has to be so."""

from __future__ import annotations

from collections.abc import Iterator

from tests.gpu.kubernetes.pods import Ended, Work, overlap

Lines = Iterator[str]


def require(condition: bool, what: str) -> None:
    """Raise RuntimeError, which fails the part, if something is not as it should be."""
    if not condition:
        raise RuntimeError(f"this is not so: {what}")


def compared(alone: Work, works: list[Work]) -> str:
    """Return in words how fast two pods computed, at the same time, beside one alone."""
    rates = " and ".join(_number(work.rate) for work in works)
    at_once = overlap(*works)
    limits = ", ".join(
        f"{work.multiprocessors} multiprocessors, allocation "
        + {True: "granted", False: "refused", None: "-"}[work.granted]
        for work in works
    )
    return (
        f"{rates} kernels a second, {at_once:.1f} s at once; alone {_number(alone.rate)}; {limits}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def ended(title: str, end: Ended) -> Lines:
    """Yield how a pod ended."""
    yield from block(f"{title}: {end.phase} {end.reason}".strip(), end.text)


def block(title: str, text: str) -> Lines:
    """Yield an output with its title."""
    yield ""
    yield f"### {title}"
    yield from (line.rstrip() for line in text.strip().splitlines())
    yield ""
