# SPDX-License-Identifier: Apache-2.0
"""Versions of engines, as their programs print them."""

from __future__ import annotations

import re

Version = tuple[int, ...]

_VERSION = re.compile(r"(?<![\w.])v?([0-9]{1,6}\.[0-9]{1,6}(?:\.[0-9]{1,6})?)")


def read(text: str) -> str | None:
    """The first version in what a program prints: ``4.3.1`` of ``podman version 4.3.1``."""
    match = _VERSION.search(text)
    return match[1] if match else None


def numbers(version: str | None) -> Version | None:
    """A version as numbers that compare; None stays None."""
    return tuple(int(part) for part in version.split(".")) if version else None


def before(version: str | None, than: Version) -> bool | None:
    """Whether a version is before another; None where it is not known."""
    known = numbers(version)
    return None if known is None else known < than
