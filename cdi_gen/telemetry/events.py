# SPDX-License-Identifier: Apache-2.0
"""Waits for NVML's events of GPUs: Xid errors, changes of clocks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from ctypes import byref, c_ulonglong, c_void_p

from cdi_gen.telemetry import library
from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.library import Nvml
from cdi_gen.telemetry.structures import EVENT_CLOCK, EVENT_XID, EventData

_WAIT_MILLISECONDS = 250
"""The thread ends within this time."""
_CLOCK_SECONDS = 0.1
"""After a change of clocks, which may come hundreds of times a second. NVML keeps other events."""
_PAUSE_SECONDS = 5.0
"""Between two event sets, if NVML reports an error."""


class XidCounts:
    """How often each Xid error happened on each GPU; used by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int | None], Counter[int]] = {}
        self._last: dict[tuple[str, int | None], int] = {}

    def add(self, uuid: str, xid: int, instance: int | None) -> None:
        """Count an Xid error of a GPU, or of one of its GPU instances."""
        with self._lock:
            for key in {(uuid, None), (uuid, instance)}:
                self._counts.setdefault(key, Counter())[xid] += 1
                self._last[key] = xid

    def counts(self, uuid: str, instance: int | None = None) -> dict[int, int]:
        """Return the number of each Xid error of a GPU with its instances, or of an instance."""
        with self._lock:
            return dict(self._counts.get((uuid, instance), {}))

    def last(self, uuid: str, instance: int | None = None) -> int:
        """Return the last Xid error; 0 if there was none."""
        return self._last.get((uuid, instance), 0)


class EventWatcher:
    """NVML's events of the GPUs of a session.

    NVML ends the events of all GPUs when one of them is lost. Then a new event set is made, for
    which the GPUs that answer register in their next pass.
    """

    def __init__(self, nvml: Nvml, xids: XidCounts) -> None:
        self._nvml = nvml
        self._xids = xids
        self._lock = threading.Lock()
        self._set: c_void_p | None = None
        self._generation = 0
        self._gpus: dict[int | None, tuple[str, Callable[[], None]]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to wait, if there are events and nothing waits yet."""
        if self._thread is None and self._gpus:
            self._thread = threading.Thread(target=self._run, name="nvml events", daemon=True)
            self._thread.start()

    def register(
        self, device: Device, uuid: str, clock_changed: Callable[[], None], generation: int
    ) -> int:
        """Register a GPU, unless it is registered in this generation of the event set.

        Args:
            device: the GPU.
            uuid: of the GPU.
            clock_changed: is called from another thread.
            generation: what this function has returned before; 0 at first.

        Returns:
            The generation; negative if the GPU reports no Xid errors in it.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        with self._lock:
            if self._set is None:
                event_set = c_void_p()
                if self._nvml.call("nvmlEventSetCreate", byref(event_set)) != library.SUCCESS:
                    return -self._generation
                self._set = event_set
                self._generation += 1
            if abs(generation) == self._generation:
                return generation
            event_set, current = self._set, self._generation
        supported = c_ulonglong()
        if not device.ask("nvmlDeviceGetSupportedEventTypes", byref(supported)):
            return -current
        types = supported.value & (EVENT_XID | EVENT_CLOCK)
        if not types & EVENT_XID or not device.ask(
            "nvmlDeviceRegisterEvents", c_ulonglong(types), event_set
        ):
            return -current
        self._gpus[device.handle.value] = (uuid, clock_changed)
        return current

    def stop_soon(self) -> None:
        """Let the thread end."""
        self._stopping.set()

    def stop(self, until: float) -> bool:
        """End the thread and the event set; return whether it is done at this time."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
            return not self._thread.is_alive()
        self._free()
        return True

    def _run(self) -> None:
        event = EventData()
        while not self._stopping.is_set():
            if self._set is None:
                self._stopping.wait(_WAIT_MILLISECONDS / 1000)
                continue
            code = self._nvml.call(
                "nvmlEventSetWait_v2", self._set, byref(event), _WAIT_MILLISECONDS
            )
            if code == library.SUCCESS:
                self._take(event)
            elif code != library.TIMEOUT:
                self._free()
                self._stopping.wait(_PAUSE_SECONDS)
        self._free()

    def _take(self, event: EventData) -> None:
        uuid, clock_changed = self._gpus.get(event.device, ("", None))
        if not uuid:
            uuid = self._nvml.text("nvmlDeviceGetUUID", c_void_p(event.device))
        if event.type & EVENT_XID and uuid:
            has_instance = event.gpu_instance != 0xFFFFFFFF
            self._xids.add(uuid, int(event.data), event.gpu_instance if has_instance else None)
        elif event.type & EVENT_CLOCK and clock_changed is not None:
            clock_changed()
            self._stopping.wait(_CLOCK_SECONDS)

    def _free(self) -> None:
        with self._lock:
            event_set, self._set = self._set, None
        if event_set is not None:
            self._nvml.call("nvmlEventSetFree", event_set)
