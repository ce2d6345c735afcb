# SPDX-License-Identifier: Apache-2.0
"""The utilisation of the last passes, of devices and of containers on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from cdi_gen.top.occupants import Occupant
from cdi_gen.top.sample import Sample, devices, utilization

LENGTH = 240
"""Passes that are kept: no screen shows more."""

_Key = tuple[str, ...]


class History:
    """Keeps what the last passes measured, of what was there in the last of them."""

    def __init__(self) -> None:
        self._shares: dict[_Key, deque[float | None]] = {}

    def add(self, sample: Sample, occupants: Sequence[Occupant]) -> None:
        """Add the results of a pass."""
        now: dict[_Key, float | None] = {
            (index,): utilization(device)
            for index, device in devices(sample.snapshot.reading).items()
        }
        now |= {
            (*occupant.key, use.device): use.utilization
            for occupant in occupants
            for use in occupant.uses
        }
        kept = {}
        for key, share in now.items():
            kept[key] = self._shares.get(key) or deque(maxlen=LENGTH)
            kept[key].append(share)
        self._shares = kept

    def of_device(self, index: str) -> tuple[float | None, ...]:
        """Return the utilisation of a device, the latest last."""
        return tuple(self._shares.get((index,), ()))

    def of_use(self, occupant: Occupant, device: str) -> tuple[float | None, ...]:
        """Return the utilisation of a device by a container, the latest last."""
        return tuple(self._shares.get((*occupant.key, device), ()))
