# SPDX-License-Identifier: Apache-2.0
"""Things that are slow to build and never change: built once, kept in the user's cache.

A thing is named by what it is and by a digest of its recipe, so a changed recipe makes a
new thing beside the old one and no test ever sees a stale or a half-built one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


class LabUnavailableError(Exception):
    """This machine cannot run the lab; the message says why. A test skips with it."""


def require_root() -> None:
    """Raise LabUnavailableError unless this process may make namespaces, nodes and owners."""
    if os.geteuid() != 0:
        raise LabUnavailableError("container engines are tested in namespaces made by root")


def home() -> Path:
    """The lab's folder in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "cdi-gen" / "lab"


def cached(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` fills, made at most once for each ``name`` and ``recipe``.

    ``build`` gets an empty folder. It is renamed to its final place only when ``build``
    returns, under a lock that makes other processes wait for the first one.
    """
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    place = home() / f"{name}-{digest}"
    if place.is_dir():
        return place
    home().mkdir(parents=True, exist_ok=True)
    with (home() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return place
        partial = Path(tempfile.mkdtemp(prefix=f"{name}.partial-", dir=home()))
        try:
            partial.chmod(0o755)
            build(partial)
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place
