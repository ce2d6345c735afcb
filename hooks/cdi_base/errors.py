# SPDX-License-Identifier: Apache-2.0
"""How a hook ends when it cannot do its work: each fault is one line and one exit status."""

from __future__ import annotations


class HookError(Exception):
    """The container must not start like this (exit 1)."""

    status = 1


class UsageError(HookError):
    """The command line, which comes from the spec, makes no sense (exit 2)."""

    status = 2


class SkippedError(HookError):
    """A step could not be done here and nothing was half done; the container may start (exit 0)."""

    status = 0


def shown(name: str) -> str:
    """A name out of an image, fit for a terminal and a log: quoted, escaped, at most 200 bytes."""
    return ascii(name)[:200]
