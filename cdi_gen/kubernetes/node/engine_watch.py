# SPDX-License-Identifier: Apache-2.0
"""Notices that another program has changed the engine's configuration.

The management of a node may write the configuration again, without the handlers.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdi_gen.host.roots import Root

CONFIGURE_SECONDS = 60.0
"""The shortest time between two changes of the configuration, because they restart the engine."""


class EngineWatch:
    """The files of the engine's configuration, and the state in which they have the handlers."""

    def __init__(self, host: Root) -> None:
        self._host = host
        self._paths: Sequence[str] = ()
        self._known: list[object] = []
        self._last: list[object] = []
        self._next = 0.0

    def note(self, paths: Sequence[str]) -> None:
        """Note that these files have the handlers now."""
        self._paths = paths
        self._known = self._stamps()

    def is_changed(self, now: float) -> bool:
        """Whether a file is another one, and not just being written; once in a while only.

        Args:
            now: the time on the clock of `time.monotonic`.
        """
        stamps = self._stamps()
        is_settled, self._last = stamps == self._last, stamps
        if stamps == self._known or not is_settled or now < self._next:
            return False
        self._next = now + CONFIGURE_SECONDS
        return True

    def _stamps(self) -> list[object]:
        return [self._stamp(path) for path in self._paths]

    def _stamp(self, path: str) -> object:
        try:
            status = self._host.lstat(self._host.resolve(path))
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
