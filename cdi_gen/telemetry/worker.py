# SPDX-License-Identifier: Apache-2.0
"""Threads that call the driver, which may not return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Job(Generic[Result]):
    """A call that a worker runs."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._done = threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run the call and keep what comes of it."""
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self._error = error
        finally:
            self._done.set()

    @property
    def is_done(self) -> bool:
        """Whether the call has ended."""
        return self._done.is_set()

    def wait(self, until: float) -> bool:
        """Wait until the call has ended or the monotonic clock has this time."""
        return self._done.wait(max(0.0, until - time.monotonic()))

    def result(self) -> Result:
        """Return what the call has returned, or raise what it has raised; it has ended."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback has this frame: a cycle
        return self._result  # type: ignore[return-value]


class Worker:
    """A thread that runs one call at a time.

    It does not keep the interpreter from ending, because a call in a driver that hangs cannot be
    ended.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job[object] | None] = SimpleQueue()
        self._job: Job[object] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether the last call has not ended."""
        return self._job is not None and not self._job.is_done

    def submit(self, function: Callable[[], Result]) -> Job[Result]:
        """Run a call after those before it."""
        job = Job(function)
        self._job = job  # type: ignore[assignment]
        self._jobs.put(job)  # type: ignore[arg-type]
        return job

    def stop(self) -> None:
        """Let the thread end after its last call."""
        self._jobs.put(None)

    def join(self, until: float) -> bool:
        """Wait for the end of the thread until this time; return whether it has ended."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            del job
