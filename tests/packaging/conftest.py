# SPDX-License-Identifier: Apache-2.0
"""The bundle for hosts without Python and the OCI image, built from this checkout."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.looking import REPOSITORY
from tools.bundle import contents
from tools.steps import BuildError


def shared(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return a directory that one of the parallel workers fills, for all of them."""
    base = factory.getbasetemp()
    base = base.parent if base.name.startswith("popen-") else base
    directory = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            partial = base / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                build(partial)
            except BuildError as error:
                pytest.skip(f"no {name}: {error}")
            partial.rename(directory)
    return directory


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the bundle of an architecture."""

    def bundle(architecture: str) -> Path:
        return shared(
            tmp_path_factory,
            f"bundle-{architecture}",
            lambda directory: contents.lay_out(directory, architecture, REPOSITORY),
        )

    return bundle


def now() -> int:
    """A time for the files of an image."""
    return int(time.time())
