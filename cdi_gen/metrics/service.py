# SPDX-License-Identifier: Apache-2.0
"""Runs the parts of ``cdi-gen metrics`` until a signal ends it.

The main thread waits for signals and tells the service manager that the other threads live: the one
that takes snapshots and the one of the HTTP server.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Protocol

from cdi_gen.metrics.loop import Loop
from cdi_gen.metrics.pages import Pages
from cdi_gen.metrics.textfile import Textfile
from cdi_gen.service_manager import ServiceManager
from cdi_gen.waking import Waker

FIRST_SECONDS = 10.0
"""How long the service manager waits for the first snapshot."""

GRACE_SECONDS = 5.0
"""The time in which responses may end when the program ends."""

STEP_SECONDS = 5.0

SILENT_SECONDS = 30.0
"""A server that did not run for so long hangs."""


class Server(Protocol):
    """The HTTP server: `cdi_gen.metrics.web.server.Server`, whose packages not everybody has."""

    @property
    def heartbeat(self) -> float:
        """When it last ran, of the monotonic clock."""

    def start(self) -> None:
        """Serve in a thread of its own."""

    def stop(self, seconds: float) -> None:
        """Let running responses end for so long."""


class Service:
    """What runs until `stop`.

    Args:
        loop: takes snapshots.
        pages: the text of the last snapshot.
        server: serves it; None: nothing is served.
        textfile: gets it; None: no file is written.
        manager: the service manager.
        reload: reads the configuration again.
    """

    def __init__(
        self,
        loop: Loop,
        pages: Pages,
        server: Server | None,
        textfile: Textfile | None,
        manager: ServiceManager,
        reload: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._pages = pages
        self._server = server
        self._textfile = textfile
        self._manager = manager
        self._reload = reload
        self._waker = Waker()
        self._is_stopping = self._is_reloading = False
        self._was_stale = True

    def stop(self) -> None:
        """End soon. It may be called by a signal handler."""
        self._is_stopping = True
        self._waker.wake()

    def reload(self) -> None:
        """Read the configuration again soon. It may be called by a signal handler."""
        self._is_reloading = True
        self._waker.wake()

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT end the service, and SIGHUP read the configuration again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, lambda *_: self.reload())

    def run(self, status: str) -> None:
        """Run until `stop` is called.

        Args:
            status: a line for `systemctl status`.
        """
        self._loop.start()
        if self._server is not None:
            self._server.start()
        try:
            self._wait_for_first()
            self._manager.ready(status)
            while not self._is_stopping:
                self._step()
            self._manager.stopping()
        finally:
            self._end()

    def _wait_for_first(self) -> None:
        end = time.monotonic() + FIRST_SECONDS
        while not (self._is_stopping or self._loop.has_published.is_set()):
            remaining = end - time.monotonic()
            if remaining <= 0:
                return
            self._waker.wait(min(remaining, 0.1))

    def _step(self) -> None:
        if self._is_reloading:
            self._is_reloading = False
            self._reload()
        is_stale = self._pages.is_stale
        if is_stale and not self._was_stale and self._textfile is not None:
            self._textfile.update(self._pages)
        self._was_stale = is_stale
        if not is_stale and self._is_serving():
            self._manager.alive()
        self._waker.wait(STEP_SECONDS)

    def _is_serving(self) -> bool:
        server = self._server
        return server is None or time.monotonic() - server.heartbeat < SILENT_SECONDS

    def _end(self) -> None:
        if self._server is not None:
            self._server.stop(GRACE_SECONDS)
        self._loop.stop(GRACE_SECONDS)
        if self._textfile is not None:
            self._textfile.remove()
        self._waker.close()
