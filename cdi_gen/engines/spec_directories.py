# SPDX-License-Identifier: Apache-2.0
"""Compares spec directories, which configurations of engines spell in different ways."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.findings import Finding

_RUN = "/var/run/"  # a link to /run on every host with systemd


def normalized(directory: str) -> str:
    """A directory in one spelling: no slash at the end, /run and not /var/run."""
    path = posixpath.normpath(directory)
    return f"/run/{path.removeprefix(_RUN)}" if path.startswith(_RUN) else path


def includes(directories: Iterable[str], directory: str) -> bool:
    """Whether a directory is one of others, whatever its spelling."""
    return normalized(directory) in map(normalized, directories)


def includes_a_default(directories: Iterable[object]) -> bool:
    """Whether one of the directories is a default one, so that specs of the machine are found."""
    paths = [str(directory) for directory in directories]
    return any(includes(paths, default) for default in SPEC_DIRECTORIES)


def no_default_is_read(engine: str, key: str, directories: object, source: str) -> Finding:
    """The finding that an engine reads none of the default directories."""
    message = (
        f"{key} of {engine} is {directories}: {engine} does not read specs in {SPEC_DIRECTORIES[0]}"
    )
    return Finding("CDG-E103", "warning", message, subject=engine, source=source)


def kept(path: str) -> Finding:
    """The finding that the administrator's directories are not changed."""
    return Finding(
        "CDG-E104", "warning", f"{path} sets cdi_spec_dirs, which is not changed", subject=path
    )
