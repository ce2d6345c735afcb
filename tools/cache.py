# SPDX-License-Identifier: Apache-2.0
"""Directories that are slow to build and never change: built once, kept in the user's cache.

A directory is named by what it is and by a digest of its recipe. A changed recipe makes a new
directory beside the old one, so that no build uses an outdated or incomplete one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def home() -> Path:
    """The directory of cdi-gen's builds in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "cdi-gen"


def cached(directory: Path, name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """Return the directory that ``build`` fills, at most once for each ``name`` and ``recipe``.

    ``build`` gets an empty directory, which gets its final name when ``build`` has returned, under
    a lock that makes other processes wait for the first one.

    Args:
        directory: the directory of the cache, created if it is missing.
        name: what is built.
        recipe: everything that the result depends on.
        build: fills the directory.
    """
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    result = directory / f"{name}-{digest}"
    if result.is_dir():
        return result
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if result.is_dir():
            return result
        partial = Path(tempfile.mkdtemp(prefix=f"{name}.partial-", dir=directory))
        try:
            partial.chmod(0o755)
            build(partial)
            partial.rename(result)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return result
