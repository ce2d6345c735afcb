# SPDX-License-Identifier: Apache-2.0
"""How close two GPUs are, as a score of each pair, from PCIe and NVLink.

The scores are those of NVIDIA's device plugin, so that both choose the same GPUs where one choice
is best: 10 to 60 for PCIe, 100 for each NVLink.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cdi_gen.inventory.properties import Link

PCIE_SCORES: Mapping[str, int] = {
    "system": 10,
    "node": 20,
    "host-bridge": 30,
    "multiple-switches": 40,
    "single-switch": 50,
    "internal": 60,
}
NVLINK_SCORE = 100


class Scores:
    """The score of each pair of GPUs, by their indices; 0 for a pair without a link."""

    def __init__(self, links: Iterable[Link] = ()) -> None:
        self._scores: dict[tuple[int, int], int] = {}
        for link in links:
            score = PCIE_SCORES.get(link.pcie, 0) + NVLINK_SCORE * link.nvlinks
            self._scores[link.first, link.second] = score
            self._scores[link.second, link.first] = score

    def of(self, first: int, second: int) -> int:
        """Return the score of a pair of GPUs."""
        return self._scores.get((first, second), 0)
