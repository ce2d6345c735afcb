# SPDX-License-Identifier: Apache-2.0
"""Examines specs, host and device plugin from time to time, and when something has changed.

One thread looks at attributes of files and runs one process at a time; `Examinations.state` returns
the last results at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

from cdi_base.findings import Finding
from cdi_gen.metrics.own import device_plugin, specs
from cdi_gen.metrics.own.model import (
    DEVICE_PLUGIN,
    DOCTOR,
    SPECS,
    DevicePluginState,
    DoctorState,
    Examination,
    OwnState,
    SpecState,
)
from cdi_gen.metrics.own.process import ExaminationError, Processes
from cdi_gen.refresh.settings import Layout

LOOK_SECONDS = 15.0
"""How often attributes of files are compared."""


class Settings(NamedTuple):
    """How often is examined what has not changed, in seconds; 0: never."""

    specs: float = 600
    doctor: float = 600
    device_plugin: float = 300
    plugin_metrics: str = ""
    """The address of the device plugin's own metrics; empty: do not ask."""


def settings_of(names: Collection[str], plugin_metrics: str) -> Settings:
    """Return the settings in which only the examinations with these names run."""
    usual = Settings()
    return Settings(
        specs=usual.specs * (SPECS in names),
        doctor=usual.doctor * (DOCTOR in names),
        device_plugin=usual.device_plugin * (DEVICE_PLUGIN in names),
        plugin_metrics=plugin_metrics,
    )


class Task(NamedTuple):
    """One examination."""

    name: str
    every: float
    """Seconds between two, if nothing has changed."""
    at_most_every: float
    """Seconds between two, if something changes all the time."""
    limit: float
    """Seconds that it may take."""
    key: Callable[[Layout], object]
    """Tells cheaply whether there can be another result; None: there is nothing to examine."""
    state_of: Callable[[dict[str, Any]], Any]
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


def tasks(settings: Settings) -> tuple[Task, ...]:
    """Return the examinations, the cheapest first."""
    all_tasks = (
        Task(SPECS, settings.specs, 30, 60, specs.key, SpecState.of),
        Task(
            DEVICE_PLUGIN,
            settings.device_plugin,
            60,
            30,
            partial(device_plugin.key, plugin_metrics=settings.plugin_metrics),
            DevicePluginState.of,
            {"plugin_metrics": settings.plugin_metrics},
        ),
        Task(DOCTOR, settings.doctor, 300, 120, specs.key, DoctorState.of),
    )
    return tuple(task for task in all_tasks if task.every)


class _Progress:
    """What is known of an examination."""

    def __init__(self) -> None:
        self.key: object = None
        self.ended: float | None = None
        """On the clock of `time.monotonic`; None: it has not run."""
        self.last: Examination | None = None
        self.state: Any = None

    def is_due(self, task: Task, key: object, now: float) -> bool:
        """Whether the examination has to run."""
        if self.ended is None:
            return True
        age = now - self.ended
        return age >= task.every or (key != self.key and age >= task.at_most_every)


class Examinations:
    """Keeps the state of specs, host and device plugin.

    Args:
        layout: the layout of the host.
        settings: how often is examined.
        report: prints a finding; called by another thread when an examination fails, once until it
            succeeds.
    """

    def __init__(
        self, layout: Layout, settings: Settings, report: Callable[[Finding], None]
    ) -> None:
        self._layout = layout
        self._tasks = tasks(settings)
        self._report = report
        self._progress = {task.name: _Progress() for task in self._tasks}
        self._processes = Processes()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Examinations:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Examine in a thread from now on."""
        self._thread = threading.Thread(target=self._run, name="examinations", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and its process."""
        self._closing.set()
        self._processes.close()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def state(self) -> OwnState:
        """Return the last results."""
        states = {name: progress.state for name, progress in self._progress.items()}
        return OwnState(
            examinations=tuple(
                progress.last for progress in self._progress.values() if progress.last
            ),
            specs=states.get(SPECS),
            doctor=states.get(DOCTOR),
            device_plugin=states.get(DEVICE_PLUGIN),
        )

    def examine(self) -> None:
        """Run what is due, in this thread."""
        for task in self._tasks:
            if self._closing.is_set():
                return
            key = _key(task, self._layout)
            if key is None:
                self._progress[task.name] = _Progress()  # the kubelet was removed
                continue
            progress = self._progress[task.name]
            if progress.is_due(task, key, time.monotonic()):
                self._examine(task, key, progress)

    def _run(self) -> None:
        while not self._closing.is_set():
            self.examine()
            self._closing.wait(LOOK_SECONDS)

    def _examine(self, task: Task, key: object, progress: _Progress) -> None:
        started = time.monotonic()
        state, fault, hint = None, "", None
        try:
            request = {"name": task.name, "layout": self._layout._asdict(), **task.options}
            state = task.state_of(self._processes.run(request, task.limit))
        except ExaminationError as error:
            fault, hint = error.message, error.hint
        except (KeyError, TypeError) as error:
            # The files of cdi-gen were replaced by those of another version.
            fault = f"its answer is of another version: {error}"
        if self._closing.is_set():
            return
        last = progress.last
        if fault and not (last and last.fault):
            self._report(
                Finding(
                    "CDG-O250",
                    "warning",
                    f"the examination of {TITLES[task.name]} failed: {fault}",
                    subject=task.name,
                    fix=hint or f"see what it says: {COMMANDS[task.name]}",
                )
            )
        progress.ended = time.monotonic()
        progress.key = key
        progress.state = state
        progress.last = Examination(
            name=task.name,
            time=time.time(),
            seconds=progress.ended - started,
            runs=(last.runs if last else 0) + 1,
            failures=(last.failures if last else 0) + bool(fault),
            fault=fault,
        )


TITLES = {SPECS: "the specs", DOCTOR: "the host", DEVICE_PLUGIN: "the device plugin"}
COMMANDS = {
    SPECS: "cdi-gen check",
    DOCTOR: "cdi-gen doctor",
    DEVICE_PLUGIN: "cdi-gen doctor kubernetes",
}


def _key(task: Task, layout: Layout) -> object:
    try:
        return task.key(layout)
    except OSError as error:
        return error.errno or 0
