# SPDX-License-Identifier: Apache-2.0
"""Keeps the plugin connected to the engine, which may start again at any time.

A container that the engine creates without the plugin has no devices of it, and no error. So the
plugin connects as soon as there is a socket.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.nri.requests import Permissions
from cdi_gen.kubernetes.nri.session import REGISTRATION_SECONDS, Session
from cdi_gen.kubernetes.reports import Report, Reports, pause

SOCKET = "/var/run/nri/nri.sock"
INDEX = "10"

RETRY = 0.2
"""Seconds between two looks for the socket of an engine that does not run."""
MAX_RETRY = 5.0
"""The same after many short connections: the engine may end every one at once."""
SHORT_SECONDS = 5.0
_READ_BYTES = 1 << 16


class ConnectionLostError(CdiGenError):
    """The plugin has no connection to the engine."""

    code = "CDG-N603"


class Plugin:
    """The plugin, which runs until `stop`.

    Args:
        path: the socket of NRI.
        index: two digits; the engine calls its plugins in this order.
        permissions: who may request what.
        report: prints a finding.
    """

    def __init__(self, path: str, index: str, permissions: Permissions, report: Report) -> None:
        self._path = path
        self._index = index
        self._permissions = permissions
        self._report = report
        self._reports = Reports(report)
        self._is_stopping = False
        self._stop_signal, self._stop_sender = socket.socketpair()

    def stop(self) -> None:
        """End `run` soon. It may be called from a signal handler."""
        self._is_stopping = True
        with contextlib.suppress(OSError):  # the plugin has ended
            self._stop_sender.send(b"\0")

    def run(self) -> None:
        """Serve the engine until `stop` is called; connect again whenever the connection ends."""
        with self._stop_signal, self._stop_sender:
            self._run()

    def _run(self) -> None:
        failures = 0
        while not self._is_stopping:
            session = Session(self._index, self._permissions, self._report)
            trunk = self._connect()
            if trunk is None:
                self._sleep(RETRY)
                continue
            begin = time.monotonic()
            with trunk:
                try:
                    self._serve(trunk, session)
                except CdiGenError as error:
                    self._reports.update("engine", _warning(error))
            is_short = time.monotonic() - begin < SHORT_SECONDS
            failures = failures + 1 if is_short or session.engine is None else 0
            if session.engine is None:
                self._sleep(pause(failures - 1))
            else:
                self._sleep(min(RETRY * 2 ** min(max(failures - 1, 0), 10), MAX_RETRY))

    def _connect(self) -> socket.socket | None:
        """Return a connection to the engine; None if there is no engine."""
        trunk = socket.socket(socket.AF_UNIX)
        trunk.settimeout(REGISTRATION_SECONDS)
        try:
            trunk.connect(self._path)
        except OSError as error:
            trunk.close()
            self._reports.update("engine", self._waiting(error))
            return None
        return trunk

    def _serve(self, trunk: socket.socket, session: Session) -> None:
        """Answer the engine until `stop` is called.

        Raises:
            CdiGenError: the connection has ended, or must be ended.
        """
        deadline = time.monotonic() + REGISTRATION_SECONDS
        try:
            trunk.sendall(session.greeting())
            while self._wait_for(trunk, None if session.engine is not None else deadline):
                data = trunk.recv(_READ_BYTES)
                if not data:
                    raise ConnectionLostError("the engine has closed the connection")
                is_new = session.engine is None
                trunk.sendall(session.receive(data))
                if is_new and session.engine is not None:
                    self._reports.update("engine", self._registered(session.engine))
        except OSError as error:  # with TimeoutError, for an engine that takes no answer
            reason = error.strerror or "it does not take the answers"
            raise ConnectionLostError(f"the connection to the engine is lost: {reason}") from error

    def _wait_for(self, trunk: socket.socket, deadline: float | None) -> bool:
        """Wait until there are bytes of the engine; return False if the plugin has to stop.

        Raises:
            ConnectionLostError: there are none before the deadline.
        """
        poll = select.poll()
        poll.register(trunk, select.POLLIN)
        poll.register(self._stop_signal, select.POLLIN)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(timeout):
            seconds = f"{REGISTRATION_SECONDS:.0f} s"
            raise ConnectionLostError(f"the engine has not configured the plugin within {seconds}")
        return not self._is_stopping

    def _sleep(self, seconds: float) -> None:
        """Sleep, or until the plugin has to stop."""
        poll = select.poll()
        poll.register(self._stop_signal, select.POLLIN)
        poll.poll(seconds * 1000)

    def _registered(self, engine: str) -> Finding:
        message = f"the plugin is registered, index {self._index}: {engine}"
        return Finding("CDG-N607", "info", message, subject=self._path)

    def _waiting(self, error: OSError) -> Finding:
        return Finding(
            ConnectionLostError.code,
            "warning",
            f"waiting for the engine: {self._path}: {error.strerror or error}",
            subject=self._path,
            fix="Enable NRI in the engine, or mount the directory of its socket.",
        )


def _warning(error: CdiGenError) -> Finding:
    return Finding(
        error.code, "warning", error.message, subject=error.subject, fix=error.hint or ""
    )
