# SPDX-License-Identifier: Apache-2.0
"""The GPUs of a host, and what a program sees of them: values, and no looking."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

ALL = "all"


class Gpu(NamedTuple):
    """A GPU of the host, as the inventory has it."""

    index: int
    uuid: str
    pci_address: str
    major: int
    minor: int

    @property
    def device_names(self) -> dict[str, str]:
        """The CDI device names by which it can be asked for."""
        pci = "pci-" + re.sub("[:.]", "-", self.pci_address)
        return {"index": str(self.index), "UUID": self.uuid, "PCI address": pci}


class Seen(NamedTuple):
    """What ``inside/gpus.c`` printed."""

    nvml: tuple[str, ...]
    """UUIDs in NVML's order."""
    cuda: tuple[str, ...]
    """UUIDs in CUDA's order."""
    minors: frozenset[int]
    """Of the nodes in /dev, before a library of the driver was used."""
    made: frozenset[int]
    """Of the nodes that the libraries made: those of root do, if the driver lets them."""
    opened: frozenset[int]
    """Minors of GPUs that it was not given, and could open."""


def of_inventory(inventory: Mapping[str, Any]) -> tuple[Gpu, ...]:
    """The GPUs in the order of their indices; those divided by MIG are devices no more."""
    return tuple(
        Gpu(
            each["index"],
            each["uuid"],
            each["pciAddress"],
            each["node"]["major"],
            each["node"]["minor"],
        )
        for each in inventory["gpus"]
        if not each.get("migEnabled")
    )


def seen(output: str) -> Seen:
    """Read what the program printed."""
    rows = [line.split() for line in output.splitlines()]

    def column(word: str, place: int) -> list[str]:
        return [row[place] for row in rows if len(row) > place and row[0] == word]

    return Seen(
        tuple(column("nvml", 2)),
        tuple(column("cuda", 2)),
        frozenset(map(int, column("node", 1))),
        frozenset(map(int, column("made", 1))),
        frozenset(int(row[1]) for row in rows if row[:1] == ["other"] and row[2:] == ["OPENED"]),
    )


def faults(given: Iterable[Gpu], host: Seen, inside: Seen) -> tuple[str, ...]:
    """What is wrong with what a container sees that was given some of the host's GPUs."""
    uuids = {each.uuid for each in given}
    minors = frozenset(each.minor for each in given)
    found = []
    for name, here, there in (
        ("NVML", host.nvml, inside.nvml),
        ("CUDA", host.cuda, inside.cuda),
    ):
        expected = tuple(uuid for uuid in here if uuid in uuids)
        if there != expected:
            found.append(f"{name} lists {', '.join(there) or 'none'}, not {', '.join(expected)}")
    if inside.minors != minors:
        found.append(f"nodes {sorted(inside.minors)}, not {sorted(minors)}")
    if inside.opened:
        found.append(f"could open {sorted(inside.opened)}, which it was not given")
    return tuple(found)


def counts(total: int) -> tuple[int, ...]:
    """How many GPUs are tried: 1, 2, 4 … and all."""
    powers = [1 << power for power in range(total.bit_length())]
    return tuple(sorted({*(each for each in powers if each <= total), total}))


def transports(output: str) -> tuple[str, ...]:
    """By what NCCL's channels go, of its own log: ``P2P/CUMEM``, ``SHM/direct/direct``."""
    return tuple(sorted(set(re.findall(r"Channel \d.* via (\S+)", output))))


def bus_rate(output: str) -> str:
    """What rank 0 of the all-reduce says of its speed; empty where it says nothing."""
    match = re.search(r"^rank 0 of .*?; (\d+ GB/s) bus", output, re.MULTILINE)
    return match[1] if match else ""


def per_gpu(medians: Mapping[int, float]) -> float | None:
    """How much one more GPU takes, of times by number of GPUs."""
    few, many = min(medians), max(medians)
    return (medians[many] - medians[few]) / (many - few) if many > few else None


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]
