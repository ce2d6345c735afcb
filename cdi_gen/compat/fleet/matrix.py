# SPDX-License-Identifier: Apache-2.0
"""Decides for every image and every class of equal hosts whether the image runs.

A thousand hosts are few classes, because a verdict depends only on the driver, the architecture and
the models of the GPUs: neither on their number nor on UUIDs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from cdi_base import versions
from cdi_base.findings import Finding
from cdi_gen.compat.driver_rules import NATIVE, NO
from cdi_gen.compat.facts import HostFacts, ImageFacts
from cdi_gen.compat.fleet.marks import WORST_FIRST, severity
from cdi_gen.compat.verdict import (
    KINDS,
    MACHINES,
    SATISFIED,
    UNKNOWN,
    UNSATISFIED,
    Verdict,
    verdict,
)
from cdi_gen.values import Value

HOST, IMAGE = "host", "image"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HostClass(Value):
    """Hosts for which every image has the same verdict."""

    label: str
    """``A``, ``B`` … ``Z``, ``AA``: the column's name in tables."""
    facts: HostFacts
    """Without a name; each model of GPU once."""
    hosts: tuple[str, ...]
    """The names of the hosts, sorted."""

    @property
    def driver(self) -> str:
        """The driver's version, for people."""
        return self.facts.driver or "none"

    @property
    def gpus(self) -> str:
        """The models of the GPUs, for people."""
        return " + ".join(dict.fromkeys(gpu.name for gpu in self.facts.gpus)) or "no GPU"

    @property
    def size(self) -> str:
        """The host's name, or the number of hosts."""
        return self.hosts[0] if len(self.hosts) == 1 else f"{len(self.hosts)} hosts"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Unreadable(Value):
    """A host or an image whose facts could not be read, and why."""

    subject: str
    """``HOST`` or ``IMAGE``."""
    name: str
    reason: Finding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ImageRow(Value):
    """An image, and its verdict for each class of hosts."""

    variants: tuple[ImageFacts, ...]
    """The image; one for each architecture of the fleet if it is an image of several platforms."""
    cells: tuple[int, ...]
    """Indexes into the fleet's verdicts, in the order of the fleet's classes."""

    @property
    def facts(self) -> ImageFacts:
        """The facts that stand for the image: those of its first architecture."""
        return self.variants[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Fleet(Value):
    """The result: rows are images, columns are classes of hosts."""

    classes: tuple[HostClass, ...]
    rows: tuple[ImageRow, ...]
    verdicts: tuple[Verdict, ...]
    """The distinct verdicts, the worst first, without `requirement_reason`, which names hosts."""
    unreadable: tuple[Unreadable, ...] = ()
    """Sorted by subject and name."""

    @property
    def hosts(self) -> int:
        """The number of hosts whose facts were read."""
        return sum(len(host_class.hosts) for host_class in self.classes)

    def counts(self) -> dict[str, int]:
        """Return the number of pairs of host and image of each kind, for all kinds."""
        counts: Counter[str] = Counter()
        sizes = [len(host_class.hosts) for host_class in self.classes]
        for row in self.rows:
            for size, cell in zip(sizes, row.cells, strict=True):
                counts[self.verdicts[cell].kind] += size
        return {kind: counts[kind] for kind in KINDS}

    def running_on(self, row: ImageRow) -> int:
        """Return the number of hosts on which the image of a row runs."""
        pairs = zip(self.classes, row.cells, strict=True)
        return sum(len(each.hosts) for each, cell in pairs if self.verdicts[cell].runs)

    def is_complete(self) -> bool:
        """Whether every input was read and every pair has a verdict other than unknown."""
        return not self.unreadable and all(each.kind != UNKNOWN for each in self.verdicts)

    def has_failure(self) -> bool:
        """Whether a pair is known not to run."""
        return any(each.kind == NO for each in self.verdicts)


def decide(
    hosts: Iterable[HostFacts],
    images: Iterable[ImageFacts],
    unreadable: Iterable[Unreadable] = (),
) -> Fleet:
    """Return the verdicts of all pairs.

    Args:
        hosts: with their names; the result is the same for every order.
        images: with their names, in the order of the rows; images of one name are one image for
            several architectures.
        unreadable: the inputs that could not be read.
    """
    classes = tuple(_classes(hosts))
    cells_of: dict[tuple[ImageFacts, ...], tuple[int, ...]] = {}
    numbers: dict[Verdict, int] = {}
    rows = []
    for variants in _images(images):
        facts = tuple(replace(image, name="", digest=None) for image in variants)
        if facts not in cells_of:
            results = (_verdict(_variant(facts, each.facts), each.facts) for each in classes)
            cells_of[facts] = tuple(numbers.setdefault(each, len(numbers)) for each in results)
        rows.append((variants, cells_of[facts]))
    verdicts = sorted(numbers, key=lambda each: WORST_FIRST.index(severity(each)))
    position = {numbers[each]: index for index, each in enumerate(verdicts)}
    return Fleet(
        classes=classes,
        rows=tuple(
            ImageRow(variants=variants, cells=tuple(position[number] for number in cells))
            for variants, cells in rows
        ),
        verdicts=tuple(verdicts),
        unreadable=tuple(sorted(unreadable, key=lambda row: (row.subject, row.name))),
    )


def _images(images: Iterable[ImageFacts]) -> list[tuple[ImageFacts, ...]]:
    variants: dict[str, list[ImageFacts]] = {}
    for image in images:
        variants.setdefault(image.name, []).append(image)
    return [tuple(dict.fromkeys(group)) for group in variants.values()]


def _variant(variants: tuple[ImageFacts, ...], host: HostFacts) -> ImageFacts:
    """Return the variant for the host; the first one if none is for its architecture."""
    own = (each for each in variants if MACHINES.get(each.architecture or "") == host.architecture)
    return next(own, variants[0])


def _verdict(image: ImageFacts, host: HostFacts) -> Verdict:
    """Return the verdict; if only a requirement is stated, that without a CUDA version decides."""
    result = verdict(image, host)
    is_stated = not image.cuda and not image.architecture and not image.unread
    if result.kind == UNKNOWN and is_stated and result.requirement in {SATISFIED, UNSATISFIED}:
        reason = Finding("CDG-M109", "info", result.requirement_reason)
        kind = NATIVE if result.requirement == SATISFIED else NO
        result = replace(result, kind=kind, reasons=(reason,))
    return replace(result, requirement_reason="")


def _classes(hosts: Iterable[HostFacts]) -> Iterator[HostClass]:
    names: dict[HostFacts, list[str]] = {}
    for host in hosts:
        gpus = sorted(
            set(host.gpus), key=lambda gpu: (gpu.name, gpu.capability or "", gpu.brand or "")
        )
        names.setdefault(replace(host, name="", gpus=tuple(gpus)), []).append(host.name)
    for number, facts in enumerate(sorted(names, key=_order)):
        yield HostClass(label=label(number), facts=facts, hosts=tuple(sorted(names[facts])))


def _order(facts: HostFacts) -> tuple[versions.Version, str, str]:
    gpus = " ".join(gpu.name for gpu in facts.gpus)
    return versions.parse(facts.driver or "") or (), gpus, repr(facts)


def label(number: int) -> str:
    """Return the name of a column as spreadsheets count: 0 is A, 25 is Z, 26 is AA."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
