# SPDX-License-Identifier: Apache-2.0
"""The programs that consume specs, and what each of their releases takes.

The facts, with their sources, are data: ``releases`` in ``specs/cdi_specs/engines.json``.
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
"""What a distribution appends: ``+ds1-1`` of ``4.9.3+ds1-1``."""


class UnknownConsumerError(ValueError):
    """No such engine is known, or none that old, or the text names no engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """What one release of one engine, and those up to the next known one, take."""

    name: str
    version: str
    """The release from which on this holds; not necessarily the one that was asked for."""
    newest_cdi_version: str
    """It ignores files that claim a newer one."""
    library: str
    """The release of the standard's library by which it reads specs."""
    additional_gids: Literal["taken", "dropped", "refused", "untested"]
    """``dropped``: silently, and the rest of the spec is applied. ``refused``: the whole file."""
    source: str
    """Where these facts are from."""

    @property
    def takes_additional_gids(self) -> bool:
        """Whether it is known to give the container's process these groups."""
        return self.additional_gids == "taken"

    def accepts(self, cdi_version: str) -> bool:
        """Tell whether it reads a file that claims ``cdi_version``."""
        return compare(cdi_version, self.newest_cdi_version) <= 0

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find(text: str) -> Consumer:
    """Return what is known of ``engine@version``; without a version, of its newest release.

    A version between two known ones behaves as the older; ``5.4`` means ``5.4.0``, and what a
    distribution appends (``4.9.3+ds1-1``) is passed over.

    Raises:
        UnknownConsumerError: with the engines, or the oldest version, that are known.
    """
    name, at, version = text.partition("@")
    engine = _engine_name(name.strip().lower())
    rows = [consumer for consumer in consumers() if consumer.name == engine]
    if not rows:
        known = ", ".join(dict.fromkeys(consumer.name for consumer in consumers()))
        raise UnknownConsumerError(f"unknown engine {name!r}; known are {known}")
    if not at:
        return rows[-1]
    wanted = _numbers(version)
    fitting = [row for row in rows if _numbers(row.version) <= wanted]
    if not fitting:
        raise UnknownConsumerError(
            f"{rows[0].name} {version}: nothing is known of CDI in it before {rows[0].version}"
        )
    return fitting[-1]


def first_to_accept(cdi_version: str) -> tuple[Consumer, ...]:
    """Return of each engine the first release that reads ``cdi_version``; none if none does."""
    first: dict[str, Consumer] = {}
    for consumer in consumers():
        if consumer.accepts(cdi_version):
            first.setdefault(consumer.name, consumer)
    return tuple(first.values())


def ignoring(refused_by: frozenset[str]) -> str:
    """Say which engines ignore a file that these releases of the standard's library refuse."""
    libraries = _spans([(_generation(each), each in refused_by) for each in LIBRARIES])
    engines = [
        f"{name} {span}"
        for name, rows in groupby(consumers(), key=lambda consumer: consumer.name)
        if (span := _spans([(row.version, _refuses(row.library, refused_by)) for row in rows]))
    ]
    told = f"engines with a CDI library {libraries} ignore the whole file"
    return f"{told}: {', '.join(engines)}" if engines else told


def _generation(library: str) -> str:
    """Releases of one minor version read alike, but for 1.1.1."""
    return library if library == LIBRARIES[-1] else newest_cdi_version(library)


def _refuses(library: str, refused_by: frozenset[str]) -> bool:
    """Others than `LIBRARIES` read as the one of their minor version, or as the oldest."""
    if library in LIBRARIES:
        return library in refused_by
    alike = (each for each in LIBRARIES if _minor(each) == _minor(library))
    return next(alike, LIBRARIES[0]) in refused_by


def _minor(library: str) -> str:
    return library.rpartition(".")[0]


def _spans(verdicts: list[tuple[str, bool]]) -> str:
    """``before 0.7.0 or from 1.1.1 on``, of names in order and which of them are meant."""
    spans = []
    starts = [name for name, _ in verdicts]
    for meant, run in groupby(range(len(verdicts)), key=lambda index: verdicts[index][1]):
        places = list(run)
        after = starts[places[-1] + 1] if places[-1] + 1 < len(starts) else None
        if not meant:
            continue
        if places[0] == 0:
            spans.append(f"before {after}" if after else "of any release")
        elif after is None:
            spans.append(f"from {starts[places[0]]} on")
        else:
            spans.append(f"from {starts[places[0]]} and before {after}")
    return " or ".join(spans)


@lru_cache(maxsize=1)
def consumers() -> tuple[Consumer, ...]:
    """Return everything known, engine by engine, oldest release first."""
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
    """The name of an engine in the table, of which ``name`` may be another one."""
    for engine, entry in engine_table.engines().items():
        if name in entry.get("other_names", ()):
            return engine
    return name


def _numbers(version: str) -> Version:
    numbers = versions.parse(_SUFFIX.sub("", version.strip().removeprefix("v")))
    if numbers is None:
        raise UnknownConsumerError(f"{version!r} is not a version; write podman@4.9.3")
    return numbers
