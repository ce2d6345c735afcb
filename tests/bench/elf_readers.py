# SPDX-License-Identifier: Apache-2.0
"""Row ``elf``: reading what ``generate`` needs of each library, with our reader and pyelftools."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from cdi_gen.host.driver import shared_library
from tests.bench.contest import Lap, Line
from tests.fakehost import hosts

Facts = tuple[str | None, tuple[str, ...]]
"""SONAME and NEEDED."""


def readers(runs: int) -> Iterator[Line]:
    """All libraries of a 550 driver, by turns in this process."""
    host = hosts.cached("550-8gpu")
    paths = sorted(
        str(path)
        for path in host.root.glob(f"usr/lib/**/*.so.{host.driver_version}")
        if path.is_file() and not path.is_symlink() and path != host.nvml
    )
    assert _ours(paths) == _theirs(paths)
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(_lap(_ours, paths))
        theirs.append(_lap(_theirs, paths))
    yield Line(
        "elf",
        f"SONAME and NEEDED of {len(paths)} libraries",
        ours,
        theirs,
        note="in one process; the right column is pyelftools",
    )


def _lap(read: Callable[[Sequence[str]], list[Facts]], paths: Sequence[str]) -> Lap:
    wall, cpu = time.perf_counter(), time.process_time()
    read(paths)
    return Lap((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3, 0)


def _ours(paths: Sequence[str]) -> list[Facts]:
    files = [shared_library.read(path) for path in paths]
    return [(file.soname, file.needed) for file in files]


def _theirs(paths: Sequence[str]) -> list[Facts]:
    facts = []
    for path in paths:
        with open(path, "rb") as file:
            (dynamic,) = ELFFile(file).iter_segments("PT_DYNAMIC")
            assert isinstance(dynamic, DynamicSegment)
            tags: list[Any] = list(dynamic.iter_tags())
            sonames = [tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"]
            needed = tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED")
            facts.append((sonames[0] if sonames else None, needed))
    return facts
