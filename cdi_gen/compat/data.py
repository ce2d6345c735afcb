# SPDX-License-Identifier: Apache-2.0
"""The tables of facts about CUDA toolkits, branches of the driver, and architectures of GPUs.

The files are in ``specs/cdi_specs``; each has its source, and the date at which it was compared
with the source. Compute capabilities and CUDA versions are pairs of numbers, ``(9, 0)``.
"""

from __future__ import annotations

import datetime as dt
import json
from functools import lru_cache
from typing import Any, NamedTuple

import cdi_specs
from cdi_base import versions
from cdi_base.versions import Version
from cdi_gen.catalogue import catalogue, pci_device_names

TOOLKITS = "cuda_toolkits.json"
BRANCHES = "driver_branches.json"
GPUS = "gpu_support.json"
OTHERS = ("driver_files.json", "pci_devices.json")
"""Further files that verdicts use: the CUDA version of each branch, the names of GPUs."""

OLD_AFTER_DAYS = 180
"""NVIDIA releases a toolkit every three months: older data lacks two."""

Pair = tuple[int, int]


class Source(NamedTuple):
    """Where the facts of a file are from, and when they were compared with it."""

    file: str
    source: str
    date: dt.date

    def age_days(self, today: dt.date) -> int:
        """Return how many days ago the facts were compared with the source."""
        return (today - self.date).days


class Architecture(NamedTuple):
    """A GPU architecture, and which software supports it."""

    name: str
    capabilities: tuple[Pair, ...]
    first_cuda: Pair
    last_cuda: int | None
    """The last major version of the toolkit; None: newer ones support the architecture too."""
    last_driver: int | None
    """The last branch of the driver; None: newer ones support the architecture too."""
    kernel_modules: tuple[str, ...]
    """The kinds of nvidia.ko that drive the GPUs: ``open``, ``proprietary``."""


class Branch(NamedTuple):
    """A branch of the driver."""

    number: int
    designation: str
    end_of_life: str | None
    """The month, ``2028-06``; None: ended, the month is not known."""

    def has_ended(self, today: dt.date) -> bool:
        """Whether NVIDIA's updates of the branch have ended."""
        return self.end_of_life is None or self.end_of_life < f"{today:%Y-%m}"


def pair(text: str) -> Pair | None:
    """Return the first two numbers of a version, `12.8.1`; None if the text is not a version."""
    numbers = versions.parse(text)
    return None if numbers is None else (*numbers, 0)[:2]  # type: ignore[return-value]


def text(version: Pair) -> str:
    """Return the version as people write it: `12.8`."""
    return f"{version[0]}.{version[1]}"


@lru_cache(maxsize=1)
def first_drivers() -> dict[Pair, str]:
    """Return the first driver that supports each CUDA version natively, oldest version first."""
    drivers: dict[Pair, str] = {}
    for row in _document(TOOLKITS)["toolkits"]:
        drivers.setdefault(_required(pair(row["cuda"])), row["driver"])
    return drivers


@lru_cache(maxsize=1)
def minor_version_drivers() -> dict[int, str]:
    """Return the first driver for minor-version compatibility, by CUDA's major version."""
    drivers = _document(TOOLKITS)["minor_version_compatibility"]["first_drivers"]
    return {int(major): driver for major, driver in drivers.items()}


@lru_cache(maxsize=1)
def architectures() -> tuple[Architecture, ...]:
    """Return the architectures, oldest first."""
    return tuple(
        Architecture(
            name=row["name"],
            capabilities=tuple(
                sorted({_required(pair(number)) for number in row["chips"].values()})
            ),
            first_cuda=_required(pair(row["first_cuda"])),
            last_cuda=None if row["last_cuda"] is None else int(row["last_cuda"]),
            last_driver=None if row["last_driver"] is None else int(row["last_driver"]),
            kernel_modules=tuple(row["kernel_modules"]),
        )
        for row in _document(GPUS)["architectures"]
    )


def architecture(capability: Pair) -> Architecture | None:
    """Return the architecture of a compute capability; None if the table does not have it."""
    for row in architectures():
        if capability in row.capabilities:
            return row
    return None


@lru_cache(maxsize=1)
def _chips() -> dict[str, Pair]:
    return {
        chip: _required(pair(number))
        for row in _document(GPUS)["architectures"]
        for chip, number in row["chips"].items()
    }


def chip_capability(name: str) -> Pair | None:
    """Return the compute capability of a chip by its name in the PCI ID Repository.

    Args:
        name: such as ``GP102GL [Tesla P40]``.

    Returns:
        None for a chip that is not in the table: too old, too new, or not a GPU.
    """
    chip = name.partition(" ")[0]
    for length in range(len(chip), 1, -1):
        capability = _chips().get(chip[:length])
        if capability is not None:
            return capability
    return None


def pci_capability(device: int) -> Pair | None:
    """Return the compute capability of a GPU by its PCI device id; None if it is not known."""
    name = pci_device_names().get(device)
    return None if name is None else chip_capability(name)


@lru_cache(maxsize=1)
def _capabilities_by_words() -> dict[frozenset[str], frozenset[Pair]]:
    """Compute capabilities by the words of the models' names."""
    capabilities: dict[frozenset[str], frozenset[Pair]] = {}
    for name in pci_device_names().values():
        chip, _, rest = name.partition(" [")
        capability = chip_capability(chip)
        if capability is None:
            continue
        for model in rest.rstrip("]").split(" / "):
            words = _words(model)
            capabilities[words] = capabilities.get(words, frozenset()) | {capability}
    return capabilities


@lru_cache(maxsize=256)
def model_capability(model: str) -> Pair | None:
    """Return the compute capability of a GPU by the name of its model, `Tesla P40`, `NVIDIA H200`.

    The names of the driver and of the PCI ID Repository differ in words for the form and the
    memory. Names that have all words of the model count; if there are none, words are dropped from
    the end of the model's name, as long as a number is left. None if the names that count are of
    different capabilities.
    """
    table = _capabilities_by_words()
    parts = _split(model.removeprefix("NVIDIA "))
    while any(character.isdigit() for part in parts for character in part):
        words = frozenset(parts)
        capabilities = table.get(words) or frozenset().union(
            *(numbers for name, numbers in table.items() if words < name)
        )
        if capabilities:
            return next(iter(capabilities)) if len(capabilities) == 1 else None
        del parts[-1]
    return None


def _words(name: str) -> frozenset[str]:
    return frozenset(_split(name))


def _split(name: str) -> list[str]:
    return name.lower().replace("-", " ").split()


@lru_cache(maxsize=1)
def branches() -> dict[int, Branch]:
    """Return the branches of the driver whose life NVIDIA has announced, by their numbers."""
    document = _document(BRANCHES)
    rows = {
        int(number): Branch(int(number), row["designation"], row["end_of_life"])
        for number, row in document["branches"].items()
    }
    return rows | {int(number): Branch(int(number), "branch", None) for number in document["ended"]}


@lru_cache(maxsize=1)
def forward_compatibility_branches() -> frozenset[int]:
    """Return the branches on which NVIDIA supports forward compatibility."""
    return frozenset(map(int, _document(BRANCHES)["forward_compatibility"]["host_branches"]))


def branch_cuda(driver: Version) -> Pair | None:
    """Return the newest CUDA version of a driver by its branch; None for an unknown branch."""
    number = catalogue().cuda_versions.get(str(driver[0]))
    return None if number is None else pair(number)


def sources() -> tuple[Source, ...]:
    """Return the source of each table with a date, oldest first."""
    rows = []
    for file in (TOOLKITS, BRANCHES, GPUS):
        document = _document(file)
        parts = [document, *(part for part in document.values() if isinstance(part, dict))]
        rows += [
            Source(file, part["source"], dt.date.fromisoformat(part["date"]))
            for part in parts
            if "date" in part
        ]
    return tuple(sorted(rows, key=lambda row: row.date))


@lru_cache(maxsize=4)
def _document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cdi_specs.read_text(name))
    return document


def _required(version: Pair | None) -> Pair:
    if version is None:
        raise ValueError("a table of cdi_specs has a number that is not a version")
    return version
