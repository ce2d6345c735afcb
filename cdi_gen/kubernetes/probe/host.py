# SPDX-License-Identifier: Apache-2.0
"""The host as long-running commands see it, and this host."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Protocol

from cdi_base import host_fingerprint
from cdi_gen.host import Where
from cdi_gen.kubernetes.probe.facts import Facts
from cdi_gen.kubernetes.probe.process import ProbeError, probe, start


class Host(Protocol):
    """A host that changes."""

    def fingerprint(self) -> object:
        """Return a value that differs when the host has changed; it must be cheap."""

    def facts(self) -> Facts:
        """Return the facts of the host.

        Raises:
            CdiGenError: the host cannot be examined, for example because no driver is loaded.
        """


class ThisHost:
    """This host, as a `Where` describes it.

    Args:
        where: the layout of the host.
        watch: the files by which a change is recognised.
        discovery: see `start`.
    """

    def __init__(
        self, where: Where, watch: host_fingerprint.Watch, discovery: str | None = None
    ) -> None:
        self._started: subprocess.Popen[str] | None = None
        prefix = where.host_root.rstrip("/")
        directories = (*where.library_search_path, *where.config_search_path)
        self._where = where
        self._discovery = discovery
        self._choices = host_fingerprint.Choices(
            layout=host_fingerprint.Layout(
                prefix + where.driver_root,
                prefix + (where.dev_root or where.driver_root),
                [prefix + directory for directory in directories],
            ),
            watch=watch,
        )

    def ask_early(self) -> None:
        """Start to ask for the facts, so that the answer is there when `facts` is called."""
        with suppress(ProbeError):  # `facts` tries again
            self._started = start(self._where, self._discovery)

    def fingerprint(self) -> object:
        """Return the fingerprint of the driver, its nodes and its MIG devices."""
        return host_fingerprint.key(self._choices)

    def facts(self) -> Facts:
        """Return the facts, see `probe`."""
        started, self._started = self._started, None
        return probe(self._where, started=started, discovery=self._discovery)
