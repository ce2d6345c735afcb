# SPDX-License-Identifier: Apache-2.0
"""The values of labels: their characters, their length, the names of GPU families."""

from __future__ import annotations

import re

MAX_LENGTH = 63
"""Kubernetes' limit. gpu-feature-discovery writes longer values, which no node gets."""

EDGE = "-_."
"""Characters that a value may contain, but neither begin nor end with."""

UNDEFINED = "undefined"
"""The family of a GPU whose compute capability has none, or is not known."""

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9\-_. ]")

_FAMILIES = {
    1: "tesla",
    2: "fermi",
    3: "kepler",
    5: "maxwell",
    6: "pascal",
    9: "hopper",
    10: "blackwell",
    12: "blackwell",
    13: "rubin",
}
"""The families by the major number of the compute capability, where the minor one has no effect."""


def family(major: int, minor: int) -> str:
    """Return the name of the family of a compute capability; ``undefined`` if it has none."""
    if major == 7:
        return "volta" if minor < 5 else "turing"
    if major == 8:
        return "ampere" if minor < 9 else "ada-lovelace"
    return _FAMILIES.get(major, UNDEFINED)


def sanitised(text: str) -> str:
    """Return the text without the characters that a value cannot have, and ``-`` for spaces."""
    return "-".join(_NOT_ALLOWED.sub("", text).split())


def joined(model: str, *suffixes: str) -> str:
    """Return a model and its suffixes as one value: ``NVIDIA-A100-SXM4-40GB-MIG-1g.5gb``.

    Where that is too long the model is shortened, because the suffixes distinguish labels.
    """
    suffix = "".join(f"-{text}" for text in map(sanitised, suffixes))
    return valid(sanitised(model)[: MAX_LENGTH - len(suffix)].rstrip(EDGE) + suffix)


def valid(text: str) -> str:
    """Return the beginning of a text that Kubernetes accepts as a value."""
    return sanitised(text).strip(EDGE)[:MAX_LENGTH].rstrip(EDGE)
