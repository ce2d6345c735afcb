# SPDX-License-Identifier: Apache-2.0
"""Things that are slow to build and never change: built once, kept in the user's cache.

A thing is named by what it is and by a digest of its recipe, so a changed recipe makes a
new thing beside the old one and no test ever sees a stale or a half-built one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tools import cache


class LabUnavailableError(Exception):
    """This machine cannot run the lab; the message says why. A test skips with it."""


def require_root() -> None:
    """Raise LabUnavailableError unless this process may make namespaces, nodes and owners."""
    if os.geteuid() != 0:
        raise LabUnavailableError("container engines are tested in namespaces made by root")


def home() -> Path:
    """The lab's folder in the user's cache."""
    return cache.home() / "lab"


def cached(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` fills, made at most once for each ``name`` and ``recipe``."""
    return cache.cached(home(), name, recipe, build)
