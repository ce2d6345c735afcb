# SPDX-License-Identifier: Apache-2.0
"""The GPUs of a host, and what a program lists of them. Pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

ALL = "all"


@dataclass(frozen=True)
class Gpu:
    """A GPU of the host, from the inventory."""

    index: int
    uuid: str
    pci_address: str
    major: int
    minor: int

    @property
    def device_names(self) -> dict[str, str]:
        """The GPU's CDI device names, by kind of name."""
        pci = "pci-" + re.sub("[:.]", "-", self.pci_address)
        return {"index": str(self.index), "UUID": self.uuid, "PCI address": pci}


class Listing(NamedTuple):
    """The output of ``inside/gpus.c``."""

    nvml: tuple[str, ...]
    """UUIDs in NVML's order."""
    cuda: tuple[str, ...]
    """UUIDs in CUDA's order."""
    minors: frozenset[int]
    """Minors of the nodes in /dev before the program used the driver's libraries."""
    created: frozenset[int]
    """Minors of the nodes that the driver's libraries created."""
    opened: frozenset[int]
    """Minors of other GPUs that the program could open."""


def gpus_of(inventory: Mapping[str, Any]) -> tuple[Gpu, ...]:
    """Return the GPUs of an inventory that have a node, without those that MIG divides."""
    return tuple(
        Gpu(gpu["index"], gpu["uuid"], gpu["pciAddress"], node["major"], node["minor"])
        for gpu in inventory["gpus"]
        for node in gpu["nodes"][:1]
        if not gpu.get("migEnabled")
    )


def parse_listing(output: str) -> Listing:
    """Parse the output of ``inside/gpus.c``."""
    rows = [line.split() for line in output.splitlines()]

    def column(word: str, number: int) -> list[str]:
        return [row[number] for row in rows if len(row) > number and row[0] == word]

    return Listing(
        nvml=tuple(column("nvml", 2)),
        cuda=tuple(column("cuda", 2)),
        minors=frozenset(map(int, column("node", 1))),
        created=frozenset(map(int, column("created", 1))),
        opened=frozenset(
            int(row[1]) for row in rows if row[:1] == ["other"] and row[2:] == ["OPENED"]
        ),
    )


def listing_faults(given: Iterable[Gpu], host: Listing, container: Listing) -> tuple[str, ...]:
    """Compare the listing of a container with the GPUs that were given to the container.

    Args:
        given: the GPUs, in any order.
        host: the listing outside of containers; its order is the expected one.
        container: the listing to check.
    """
    given = tuple(given)
    uuids = {gpu.uuid for gpu in given}
    minors = frozenset(gpu.minor for gpu in given)
    faults = []
    for library, host_uuids, container_uuids in (
        ("NVML", host.nvml, container.nvml),
        ("CUDA", host.cuda, container.cuda),
    ):
        expected = tuple(uuid for uuid in host_uuids if uuid in uuids)
        if container_uuids != expected:
            listed = ", ".join(container_uuids) or "nothing"
            faults.append(f"{library} lists {listed}, expected {', '.join(expected)}")
    if container.minors != minors:
        faults.append(f"nodes {sorted(container.minors)}, expected {sorted(minors)}")
    if container.opened:
        faults.append(f"GPUs {sorted(container.opened)} can be opened")
    return tuple(faults)


def gpu_counts(total: int) -> tuple[int, ...]:
    """Return the numbers of GPUs to measure with: powers of two, and all."""
    powers = [1 << power for power in range(total.bit_length())]
    return tuple(sorted({*(count for count in powers if count <= total), total}))


def transports(log: str) -> tuple[str, ...]:
    """Return the transports of NCCL's channels, from its log: ``P2P/CUMEM``, ``NET/Socket/0``."""
    return tuple(sorted(set(re.findall(r"Channel \d.* via (\S+)", log))))


def bus_bandwidth(output: str) -> str:
    """Return the bus bandwidth that rank 0 of the all-reduce printed; empty if there is none."""
    match = re.search(r"^rank 0 of .*?; (\d+ GB/s) bus", output, re.MULTILINE)
    return match[1] if match else ""


class P2pResult(NamedTuple):
    """A line of ``gpus p2p``."""

    pair: str
    result: str
    """Whether access is possible, and whether a kernel read the other GPU's memory."""
    bandwidth: int
    """Of copies, in GB/s."""


def p2p_results(output: str) -> tuple[P2pResult, ...]:
    """Parse the output of ``gpus p2p``."""
    matches = re.finditer(r"^p2p (\d+ \d+) (.*), (\d+) GB/s$", output, re.MULTILINE)
    return tuple(P2pResult(match[1], match[2], int(match[3])) for match in matches)


def p2p_summary(results: Sequence[P2pResult]) -> str:
    """Summarise the results of all pairs."""
    if not results:
        return "none"
    outcomes = Counter(result.result for result in results)
    slowest, fastest = (bound(result.bandwidth for result in results) for bound in (min, max))
    counts = "; ".join(f"{count} ordered pairs: {outcome}" for outcome, count in outcomes.items())
    return f"{counts}; {slowest} to {fastest} GB/s"


def per_gpu(medians: Mapping[int, float]) -> float | None:
    """Return what one more GPU adds, from values by number of GPUs."""
    fewest, most = min(medians), max(medians)
    return (medians[most] - medians[fewest]) / (most - fewest) if most > fewest else None


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]
