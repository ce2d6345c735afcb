# SPDX-License-Identifier: Apache-2.0
"""The place of a GPU in NVML's order, and the thread that measures it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from cdi_gen.telemetry.device import GpuFault
from cdi_gen.telemetry.events import EventWatcher, XidCounts
from cdi_gen.telemetry.gpu import Gpu, Identity
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.library import Nvml
from cdi_gen.telemetry.model import GpuReading
from cdi_gen.telemetry.worker import Job, Worker


class Counts:
    """What is counted as long as this program runs, by the UUID of a GPU."""

    def __init__(self) -> None:
        self.xids = XidCounts()
        self.timeouts: Counter[str] = Counter()
        self._clock_events: dict[str, Counter[str]] = {}

    def clock_events(self, uuid: str) -> Counter[str]:
        """Return how often the clocks were lowered, by the reason."""
        return self._clock_events.setdefault(uuid, Counter())


class Slot:
    """The place of a GPU, which may be lost and come back."""

    def __init__(
        self, nvml: Nvml, index: int, wanted: Groups, counts: Counts, events: EventWatcher
    ) -> None:
        self.index = index
        self.identity: Identity | None = None
        self._nvml = nvml
        self._wanted = wanted
        self._counts = counts
        self._events = events
        self._gpu: Gpu | None = None
        self._worker: Worker | None = None
        self._measuring: Job[GpuReading] | None = None
        self._noting: Job[None] | None = None

    def start(self) -> Job[GpuReading] | None:
        """Begin to measure; None if the GPU has not answered the last time."""
        if self._worker is None:
            self._worker = Worker(f"gpu {self.index}")
        if self.is_busy:
            return None
        self._measuring = self._worker.submit(self._measure)
        return self._measuring

    @property
    def is_busy(self) -> bool:
        """Whether the GPU has not answered yet."""
        return self._measuring is not None and not self._measuring.is_done

    def stop(self, until: float) -> bool:
        """End the thread; return whether it has ended at this time of the monotonic clock."""
        if self._worker is None:
            return True
        self._worker.submit(self._drop)
        self._worker.stop()
        return self._worker.join(until)

    def _measure(self) -> GpuReading:
        """Measure the GPU.

        Raises:
            GpuFault: it cannot be measured; it is looked for again the next time.
        """
        if self._gpu is None:
            counts = self._counts
            self._gpu = Gpu(self._nvml, self.index, self._wanted, counts.xids, counts.clock_events)
            self.identity = self._gpu.identity
        try:
            self._gpu.register(self._events, self._clock_changed)
            return self._gpu.measure()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            gpu.close()

    def _clock_changed(self) -> None:
        """Let the GPU's thread look for the reasons; called by the thread of the events."""
        if self._worker is not None and (self._noting is None or self._noting.is_done):
            self._noting = self._worker.submit(self._note_clock_events)

    def _note_clock_events(self) -> None:
        if self._gpu is not None:
            with suppress(GpuFault):
                self._gpu.note_clock_events()
