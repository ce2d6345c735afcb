# SPDX-License-Identifier: Apache-2.0
"""A program that a test starts in a node and leaves running: a daemon of the node, a device plugin."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

from tests.lab.engines import Inside, Started
from tests.lab.kubernetes.waiting import SECONDS, until

SHARED = "/lab"
"""A folder that is both the node's and the test's: logs, archives of images."""


class Process:
    """A program of a node that is left running and can be started again.

    Attributes:
        name: of its log.
        log: a file of this machine with all that it printed, from its first start on.
    """

    def __init__(
        self, inside: Inside, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self._inside = inside
        self._argv = tuple(argv)
        self._env = dict(env)
        self._started = self._start()

    @property
    def pid(self) -> int:
        """Its process id in the node."""
        return self._started.pid

    def returncode(self) -> int | None:
        """Return how it ended, minus the number of a signal for one; None while it runs."""
        return self._started.returncode()

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._started.signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end; returns how it ended."""

        def status() -> tuple[int] | None:
            code = self.returncode()
            return None if code is None else (code,)

        return until(status, f"{self.name} ends", seconds=seconds)[0]

    def stop(self, number: int = SIGTERM) -> int:
        """Send a signal and wait for the end; returns how it ended."""
        self.send_signal(number)
        return self.wait()

    def restart(self, number: int = SIGTERM) -> None:
        """Stop the program, if it still runs, and start it again."""
        self.stop(number)
        self.start_again()

    def start_again(self) -> None:
        """Start the program again after its end."""
        self._started = self._start()

    def text(self) -> str:
        """Return all that it printed."""
        return self.log.read_text("utf-8", "surrogateescape")

    def _start(self) -> Started:
        path = f"{SHARED}/log/{self.log.name}"
        return self._inside.start(self._argv, log=path, env=self._env)


@contextmanager
def supervised(process: Process) -> Iterator[None]:
    """Start a program again when it ends, as systemd does."""
    ended = threading.Event()

    def supervise() -> None:
        while not ended.wait(0.1):
            if process.returncode() is not None:
                process.start_again()

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
