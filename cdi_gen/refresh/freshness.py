# SPDX-License-Identifier: Apache-2.0
"""Tells whether anything has changed since the last refresh, by attributes of files alone.

No file of the driver is opened, no spec is parsed, and NVML is not asked. If something has changed,
the specs may be right nevertheless: an unrelated package may have run ldconfig.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence

from cdi_base import host_fingerprint
from cdi_base.cdi.spec_directories import SUFFIXES
from cdi_base.host_fingerprint import Choices, Layout, Watch
from cdi_gen.refresh.record import Record
from cdi_gen.refresh.settings import State

CURRENT, DESCRIPTION = "current", "driver.json"
"""Names in the directory of the driver trees, and in each tree."""

FORM = "refresh"
"""Distinguishes the fingerprints of a refresh from those of the runtime shim."""


def choices(layout: Layout, watch: Watch, hook: str) -> Choices:
    """Return the choices of a fingerprint."""
    return Choices(layout.driver_root, hook, (), (), (), (FORM,), layout, watch)


def choices_document(choices: Choices) -> State:
    """Return the JSON form, which the record keeps."""
    return [choices.layout.document(), choices.watch.document(), choices.hook]


def is_host_unchanged(record: Record, prefix: str) -> bool:
    """Whether the host is as it was when the specs of the record were generated."""
    if not record.key or len(record.choices) != 3:
        return False
    layout, watch = Layout.of(record.choices[0]), Watch.of(record.choices[1])
    if layout is None or watch is None:
        return False
    known = choices(layout, watch, str(record.choices[2]))
    return host_fingerprint.key(known, prefix) == record.key and all(
        _stamp(f"{prefix}{path}") == stamp for path, stamp in record.sources.items()
    )


def are_files_unchanged(record: Record) -> bool:
    """Whether our spec files are those that were written."""
    return all(host_fingerprint.stamp(path) == file.stamp for path, file in record.files.items())


def is_tree_unchanged(record: Record) -> bool:
    """Whether the driver tree of the specs is mounted, and is the one that containers get."""
    if not record.tree:
        return True
    directory, _, name = record.tree.rpartition("/")
    try:
        is_current = os.readlink(f"{directory}/{CURRENT}") == name
    except OSError:
        return False
    return is_current and os.path.exists(f"{record.tree}/{DESCRIPTION}")


def are_directories_unchanged(record: Record) -> bool:
    """Whether the spec directories contain the same files."""
    return all(listing(path) == state for path, state in record.directories.items())


def listings(directories: Iterable[str]) -> dict[str, State]:
    """Return the content of spec directories, each once under its real path."""
    real_paths = dict.fromkeys(map(os.path.realpath, directories))
    return {path: listing(path) for path in real_paths}


def listing(directory: str) -> State:
    """Return the number of spec files in a directory, and a checksum of names and attributes.

    The checksum finds a change, not an attack: only root can write to a spec directory.
    """
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIXES))
    except OSError:
        return []
    checksum = 0
    for name in names:
        stamp = host_fingerprint.stamp(f"{directory}/{name}")
        checksum = zlib.crc32(f"{name}\0{stamp}".encode("utf-8", "surrogateescape"), checksum)
    return [len(names), checksum]


def stamps(paths: Sequence[str], prefix: str) -> dict[str, State]:
    """Return the stamps of files of the host, by path."""
    return {path: _stamp(f"{prefix}{path}") for path in paths}


def _stamp(path: str) -> State:
    """Return attributes that change when a package manager replaces a file; empty: no such file.

    Not the time of the last change of its attributes: a backup that makes hard links changes that.
    """
    modified, _, *others = host_fingerprint.stamp(path) or (0, 0)
    return [modified, *others] if others else []
