# SPDX-License-Identifier: Apache-2.0
"""Measures all GPUs of the host, whatever the driver does."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

from cdi_gen.errors import CdiGenError
from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.telemetry.device import GpuFault
from cdi_gen.telemetry.gpu import Identity
from cdi_gen.telemetry.groups import ALL, Groups
from cdi_gen.telemetry.model import GpuReading, Reading
from cdi_gen.telemetry.session import Session
from cdi_gen.telemetry.slot import Counts, Slot
from cdi_gen.telemetry.worker import Job, Worker

_RETRY_SECONDS = 300.0
"""After this time with a fault of a GPU, NVML is initialised again: it may find the GPU."""

_UNKNOWN = Identity("", "", "", None)


class Telemetry:
    """Measures GPUs and MIG devices with NVML.

    NVML stays initialised between passes. A GPU that does not answer in time delays no other: it is
    asked again when it has answered. After a fault of the driver, and when the driver was unloaded,
    replaced or has other GPUs, NVML is loaded and initialised again.
    """

    def __init__(
        self,
        library: Callable[[], str | None] | str,
        *,
        deadline: float = 2.0,
        groups: Groups = ALL,
        host_root: str = "/",
    ) -> None:
        """Prepare; nothing is loaded before the first pass.

        Args:
            library: the path of libnvidia-ml, or a function that finds it. The function returns
                None if no driver is installed, and may raise `CdiGenError`.
            deadline: the seconds in which a GPU must answer.
            groups: what is measured.
            host_root: the path of the host's ``/`` for this process.
        """
        self._find = library if callable(library) else lambda: library
        self._deadline = deadline
        self._groups = groups
        self._gpu_directory = host_root.rstrip("/") + "/proc/driver/nvidia/gpus"
        self._lock = threading.Lock()
        self._control: Worker | None = None
        self._opening: Job[Session] | None = None
        self._session: Session | None = None
        self._has_ended = False
        self._faulty_since: float | None = None
        self._identities: dict[int, Identity] = {}
        self._counts = Counts()

    def __enter__(self) -> Telemetry:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self) -> Reading:
        """Measure all GPUs once. It takes at most about `deadline`, whatever hangs."""
        with self._lock:
            start = time.monotonic()
            until = start + self._deadline
            error = self._open(until)
            session = self._session
            gpus = self._measure(session, until) if session is not None else ()
            return Reading(
                time=time.time(),
                seconds=time.monotonic() - start,
                driver_version=session.driver_version if session else "",
                cuda_version=session.cuda_version if session else "",
                gpus=gpus,
                error=error,
            )

    def close(self) -> None:
        """End NVML and the threads, except those that hang in the driver."""
        with self._lock:
            until = time.monotonic() + self._deadline
            self._end(until)
            if self._control is not None:
                opening, self._opening = self._opening, None
                if opening is not None:
                    self._control.submit(lambda: _close_late(opening))
                self._control.stop()
                self._control.join(until)
                self._control = None

    def _open(self, until: float) -> str:
        """Initialise NVML if it is not; return why it cannot be used."""
        if self._session is not None and self._session.has_changed():
            self._end(until)
        if self._session is not None:
            return ""
        if self._control is None:
            self._control = Worker("nvml")
        if self._opening is None:
            self._opening = self._control.submit(self._new_session)
        if not self._opening.wait(until):
            return f"NVML has not initialised within {self._deadline:g} s"
        job, self._opening = self._opening, None
        try:
            self._session = job.result()
        except (NvmlUnavailable, CdiGenError) as error:
            return str(error)
        return ""

    def _new_session(self) -> Session:
        if self._has_ended:
            # The threads and functions of a session are cycles. Without this, memory would grow by
            # those of a hundred sessions, until the interpreter looks at its oldest objects.
            self._has_ended = False
            gc.collect()
        path = self._find()
        if path is None:
            raise NvmlUnavailable("libnvidia-ml is not installed")
        return Session(path, self._gpu_directory, self._groups, self._counts)

    def _end(self, until: float) -> None:
        """End NVML. A library in which a thread hangs is left as it is."""
        session, self._session = self._session, None
        if session is None or self._control is None:
            return
        self._has_ended = True
        if session.stop(until):
            self._control.submit(session.close).wait(until)

    def _measure(self, session: Session, until: float) -> tuple[GpuReading, ...]:
        jobs = [(slot, slot.start()) for slot in session.slots]
        readings = []
        ended = False
        for slot, job in jobs:
            fault = ""
            if job is None or not job.wait(until):
                fault = f"the GPU has not answered within {self._deadline:g} s"
                self._counts.timeouts[self._name(slot)] += 1
            else:
                try:
                    readings.append(self._complete(slot, job.result()))
                    continue
                except GpuFault as error:
                    fault = str(error)
                    ended |= error.ends_session
                except Exception as error:  # noqa: BLE001 - it must not hide the other GPUs
                    fault = f"{type(error).__name__}: {error}"
            readings.append(self._faulty(slot, fault))
        if ended or self._is_retry_due(any(reading.fault for reading in readings)):
            self._end(until)
        else:
            session.events.start()
        return tuple(readings)

    def _is_retry_due(self, is_faulty: bool) -> bool:
        now = time.monotonic()
        if not is_faulty:
            self._faulty_since = None
            return False
        if self._faulty_since is None:
            self._faulty_since = now
        if now - self._faulty_since < _RETRY_SECONDS:
            return False
        self._faulty_since = now
        return True

    def _name(self, slot: Slot) -> str:
        """Return what counters of a GPU are kept by, from one session to the next."""
        if slot.identity is not None:
            self._identities[slot.index] = slot.identity
        uuid = self._identities.get(slot.index, _UNKNOWN).uuid
        if uuid:
            self._counts.timeouts[uuid] += self._counts.timeouts.pop(str(slot.index), 0)
        return uuid or str(slot.index)

    def _complete(self, slot: Slot, reading: GpuReading) -> GpuReading:
        timeouts = self._counts.timeouts[self._name(slot)]
        return replace(reading, timeouts=timeouts) if timeouts else reading

    def _faulty(self, slot: Slot, fault: str) -> GpuReading:
        name = self._name(slot)
        identity = self._identities.get(slot.index, _UNKNOWN)
        return GpuReading(
            index=str(slot.index),
            **identity._asdict(),
            quantities={},
            # The Xid errors may say why.
            xids=self._counts.xids.counts(name),
            clock_event_counts=dict(self._counts.clock_events(name)),
            fault=fault,
            timeouts=self._counts.timeouts[name],
        )


def _close_late(opening: Job[Session]) -> None:
    """End NVML that was initialised after nobody wanted it any more."""
    with suppress(NvmlUnavailable, CdiGenError):
        opening.result().close()
