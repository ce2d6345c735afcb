# SPDX-License-Identifier: Apache-2.0
"""A root of a container, opened with both ways of resolving a path."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_base.rootfs import resolve
from cdi_base.rootfs.rootfs import RootFs

RESOLVERS = [resolve.by_kernel, resolve.by_walking]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").write_text("old")
    return root


@pytest.fixture(params=RESOLVERS, ids=lambda resolver: resolver.__name__)
def files(request: pytest.FixtureRequest, root: Path) -> Iterator[RootFs]:
    files = RootFs(os.open(root, os.O_PATH | os.O_DIRECTORY), request.param)
    before = open_below(root.parent)
    yield files
    assert open_below(root.parent) == before, "a descriptor was left open"
    os.close(files.descriptor)


def open_below(folder: Path) -> dict[int, str]:
    """Number and path of each open descriptor below `folder`."""
    # Not all descriptors: pytest and libraries may open and close others meanwhile.
    opened = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own descriptor
            path = os.readlink(f"/proc/self/fd/{name}")
            if Path(path).is_relative_to(folder):
                opened[int(name)] = path
    return opened


def failing(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
