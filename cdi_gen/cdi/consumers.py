# SPDX-License-Identifier: Apache-2.0
"""The engines that read specs, and which CDI features each of their releases supports.

The facts and their sources are in ``releases`` of ``specs/cdi_specs/engines.json``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal

from cdi_base import versions
from cdi_base.cdi.libraries import LIBRARIES, newest_cdi_version
from cdi_base.cdi.versions import compare
from cdi_base.versions import Version
from cdi_gen.cdi import engine_table

_SUFFIX = re.compile(r"[-+~].*")
"""The suffix that a distribution appends to a version: ``+ds1-1`` of ``4.9.3+ds1-1``."""


class UnknownConsumerError(ValueError):
    """The engine is not in the table, or the release is older than the table, or is no version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """The CDI support of an engine, from one release in the table up to the next."""

    name: str
    version: str
    """The first release that the facts apply to; may be older than the requested release."""
    newest_cdi_version: str
    """The engine ignores files with a newer ``cdiVersion``."""
    library: str
    """The release of the standard's Go library that the engine reads specs with."""
    additional_gids: Literal["taken", "dropped", "refused", "untested"]
    """``dropped``: the engine ignores the field silently and applies the rest of the spec.
    ``refused``: the engine ignores the whole file."""
    source: str
    """The source of the facts."""

    @property
    def takes_additional_gids(self) -> bool:
        """Whether the engine gives these groups to the container's process."""
        return self.additional_gids == "taken"

    def accepts(self, cdi_version: str) -> bool:
        """Whether the engine reads a file with this ``cdiVersion``."""
        return compare(cdi_version, self.newest_cdi_version) <= 0

    def refuses(self, refused_by: frozenset[str]) -> bool:
        """Whether the engine ignores a file that these releases of the library refuse."""
        return reads_as(self.library) in refused_by

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find(text: str) -> Consumer:
    """Return the CDI support of ``engine@version``; without a version, of the newest release.

    A version between two releases in the table counts as the older one. ``5.4`` means ``5.4.0``.
    The suffix of a distribution (``4.9.3+ds1-1``) is ignored.

    Raises:
        UnknownConsumerError: the table has no such engine or no release that old; the message lists
            the engines, or the oldest release, in the table.
    """
    name, at, version = text.partition("@")
    engine = _engine_name(name.strip().lower())
    rows = [consumer for consumer in consumers() if consumer.name == engine]
    if not rows:
        names = ", ".join(dict.fromkeys(consumer.name for consumer in consumers()))
        raise UnknownConsumerError(f"unknown engine {name!r}; the engines are {names}")
    if not at:
        return rows[-1]
    requested = _numbers(version)
    not_newer = [row for row in rows if _numbers(row.version) <= requested]
    if not not_newer:
        raise UnknownConsumerError(
            f"{rows[0].name} {version} is too old: the oldest release is {rows[0].version}"
        )
    return not_newer[-1]


def first_to_accept(cdi_version: str) -> tuple[Consumer, ...]:
    """Return the first release of each engine that reads ``cdi_version``.

    Engines without such a release are left out.
    """
    first: dict[str, Consumer] = {}
    for consumer in consumers():
        if consumer.accepts(cdi_version):
            first.setdefault(consumer.name, consumer)
    return tuple(first.values())


def ignoring(refused_by: frozenset[str]) -> str:
    """Return a sentence about the engines that ignore a file.

    Args:
        refused_by: the releases of the standard's library that refuse the file.
    """
    libraries = _spans([(_generation(library), library in refused_by) for library in LIBRARIES])
    engines = [
        f"{name} {span}"
        for name, rows in groupby(consumers(), key=lambda consumer: consumer.name)
        if (span := _spans([(row.version, row.refuses(refused_by)) for row in rows]))
    ]
    sentence = f"engines with a CDI library {libraries} ignore the whole file"
    return f"{sentence}: {', '.join(engines)}" if engines else sentence


def _generation(library: str) -> str:
    """The name of the releases that read specs alike: the minor version, except 1.1.1."""
    return library if library == LIBRARIES[-1] else newest_cdi_version(library)


def reads_as(library: str) -> str:
    """Return the release in `LIBRARIES` that reads specs as a release of the library does.

    It is the release of the same minor version, or else the oldest one.
    """
    if library in LIBRARIES:
        return library
    same_minor = (release for release in LIBRARIES if _minor(release) == _minor(library))
    return next(same_minor, LIBRARIES[0])


def _minor(library: str) -> str:
    return library.rpartition(".")[0]


def _spans(releases: list[tuple[str, bool]]) -> str:
    """The ranges of the selected releases, as text: ``before 0.7.0 or from 1.1.1 on``.

    Args:
        releases: release in ascending order, and whether it is selected.
    """
    spans = []
    names = [name for name, _ in releases]
    for is_selected, run in groupby(range(len(releases)), key=lambda index: releases[index][1]):
        indices = list(run)
        after = names[indices[-1] + 1] if indices[-1] + 1 < len(names) else None
        if not is_selected:
            continue
        first = names[indices[0]]
        if indices[0] == 0:
            spans.append(f"before {after}" if after else "of any release")
        elif after is None:
            spans.append(f"from {first} on")
        else:
            spans.append(f"from {first} and before {after}")
    return " or ".join(spans)


@lru_cache(maxsize=1)
def consumers() -> tuple[Consumer, ...]:
    """Return the whole table, engine by engine, the oldest release first."""
    return tuple(
        Consumer(
            name=name,
            version=row["version"],
            newest_cdi_version=row["cdiVersion"],
            library=row["library"],
            additional_gids=row["additionalGids"],
            source=engine_table.sources(row["sources"]),
        )
        for name, engine in engine_table.engines().items()
        for row in engine["releases"]
    )


def _engine_name(name: str) -> str:
    """The name that the table uses for an engine; ``name`` may be an alternative name."""
    for engine, entry in engine_table.engines().items():
        if name in entry.get("other_names", ()):
            return engine
    return name


def _numbers(version: str) -> Version:
    numbers = versions.parse(_SUFFIX.sub("", version.strip().removeprefix("v")))
    if numbers is None:
        raise UnknownConsumerError(f"{version!r} is not a version; for example: podman@4.9.3")
    return numbers
