# SPDX-License-Identifier: Apache-2.0
"""Takes a snapshot in each interval, in a thread that nothing else waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.metrics.snapshot import Snapshot


class Loop:
    """Takes snapshots until `stop`.

    Args:
        collect: takes a snapshot.
        publish: gets each snapshot.
        interval: seconds from the beginning of one to the beginning of the next.
        report: prints a finding.
    """

    def __init__(
        self,
        collect: Callable[[], Snapshot],
        publish: Callable[[Snapshot], None],
        interval: float,
        report: Callable[[Finding], None],
    ) -> None:
        self._collect = collect
        self._publish = publish
        self._interval = interval
        self._report = report
        self._failure = ""
        self._stopping = threading.Event()
        self.has_published = threading.Event()
        """Set after the first snapshot."""
        # A daemon: a file system or a library that hangs does not hold up the end of the program.
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Take the first snapshot now."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Take no further snapshot; return whether the last one ended within so many seconds."""
        self._stopping.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun = time.monotonic()
            self._take()
            # After one that took longer than the interval, the next begins at once.
            self._stopping.wait(max(0.0, begun + self._interval - time.monotonic()))

    def _take(self) -> None:
        try:
            self._publish(self._collect())
        except Exception as error:  # noqa: BLE001 - the next one may succeed
            self._fail(error)
        else:
            self._failure = ""
            self.has_published.set()

    def _fail(self, error: Exception) -> None:
        """Report why there is no snapshot, once until it changes."""
        reason, fix = f"{type(error).__name__}: {error}", ""
        if isinstance(error, CdiGenError):
            reason, fix = error.message, error.hint or ""
        if reason != self._failure:
            self._failure = reason
            message = f"the GPUs and containers could not be examined: {reason}"
            self._report(Finding("CDG-O154", "error", message, fix=fix))
