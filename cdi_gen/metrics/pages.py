# SPDX-License-Identifier: Apache-2.0
"""Keeps the text of the last snapshot for scrapes.

A form of the text is made once for each snapshot, whatever the number of scrapes. Only the age of
the snapshot is added when the text is read.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

from cdi_gen.metrics.snapshot import Snapshot

STALE_INTERVALS = 3
"""A snapshot that is older than so many intervals says nothing about the GPUs any more."""

END = b"# EOF\n"
"""The last line of OpenMetrics."""

_AGE = "cdi_gen_metrics_snapshot_age_seconds"
_GZIP = 16 + zlib.MAX_WBITS


class Form(NamedTuple):
    """A form of the text."""

    openmetrics: bool = False
    """OpenMetrics 1.0 instead of the text format of Prometheus."""
    gzip: bool = False


Render = Callable[[Snapshot | None, bool], bytes]
"""Returns the text of a snapshot; the second argument is ``openmetrics``. None: without what a
snapshot has."""


class Pages:
    """The text of the last snapshot. Snapshots come from one thread, scrapes from another.

    Args:
        render: makes the text.
        interval: seconds between two snapshots.
        clock: returns seconds.
    """

    def __init__(
        self, render: Render, interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._render = render
        self._limit = STALE_INTERVALS * interval
        self._clock = clock
        self._edition: _Edition | None = None
        self._stale_edition: _Edition | None = None

    def publish(self, snapshot: Snapshot) -> None:
        """Take over a snapshot, and make the forms of its text that were read since the last."""
        edition = _Edition(self._render, snapshot, self._clock())
        if self._edition is not None:
            for form in tuple(self._edition.read):
                edition.text(form)
            edition.read.clear()
        self._edition = edition
        self._stale_edition = None

    def age(self) -> float | None:
        """Return the seconds since the last snapshot; None if there is none."""
        edition = self._edition
        return None if edition is None else self._clock() - edition.time

    @property
    def is_stale(self) -> bool:
        """Whether the last snapshot is too old, or there is none."""
        age = self.age()
        return age is None or age > self._limit

    def text(self, form: Form) -> tuple[bytes, ...] | None:
        """Return the text in a form, in parts; None before the first snapshot."""
        edition = self._edition
        if edition is None:
            return None
        age = self._clock() - edition.time
        if age > self._limit:
            stale = self._stale_edition
            if stale is None:
                self._stale_edition = stale = _Edition(self._render, None, edition.time)
            edition = stale
        return edition.with_age(form, age)


class _Edition:
    """The text of one snapshot, in the forms that were asked for."""

    def __init__(self, render: Render, snapshot: Snapshot | None, at: float) -> None:
        self._render = render
        self._snapshot = snapshot
        self.time = at
        self.read: set[Form] = set()
        self._texts: dict[bool, bytes] = {}
        self._compressed: dict[bool, tuple[bytes, zlib._Compress]] = {}

    def text(self, form: Form) -> None:
        """Make the text in a form."""
        self.read.add(form)
        if form.openmetrics not in self._texts:
            text = self._render(self._snapshot, form.openmetrics)
            self._texts[form.openmetrics] = text.removesuffix(END)
        if form.gzip and form.openmetrics not in self._compressed:
            compressor = zlib.compressobj(wbits=_GZIP)
            begin = compressor.compress(self._texts[form.openmetrics])
            begin += compressor.flush(zlib.Z_SYNC_FLUSH)
            self._compressed[form.openmetrics] = begin, compressor

    def with_age(self, form: Form, age: float) -> tuple[bytes, ...]:
        """Return the text in a form, with the age of the snapshot at its end."""
        self.text(form)
        end = _age(age) + (END if form.openmetrics else b"")
        if not form.gzip:
            return self._texts[form.openmetrics], end
        begin, compressor = self._compressed[form.openmetrics]
        copy = compressor.copy()
        return begin, copy.compress(end) + copy.flush()


def _age(seconds: float) -> bytes:
    return (
        f"# HELP {_AGE} Time since the GPUs were measured.\n"
        f"# TYPE {_AGE} gauge\n"
        f"{_AGE} {seconds:.3f}\n"
    ).encode()
