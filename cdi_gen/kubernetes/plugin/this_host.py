# SPDX-License-Identifier: Apache-2.0
"""The host that the device plugin runs on."""

from __future__ import annotations

from cdi_base import host_fingerprint
from cdi_gen.host import Where
from cdi_gen.kubernetes.probe import Facts, probe


class ThisHost:
    """Examines this host as a `Where` describes it."""

    def __init__(self, where: Where, watch: host_fingerprint.Watch) -> None:
        prefix = where.host_root.rstrip("/")
        directories = (*where.library_search_path, *where.config_search_path)
        self._where = where
        self._choices = host_fingerprint.Choices(
            layout=host_fingerprint.Layout(
                prefix + where.driver_root,
                prefix + (where.dev_root or where.driver_root),
                [prefix + directory for directory in directories],
            ),
            watch=watch,
        )

    def fingerprint(self) -> object:
        """Return the fingerprint of the driver, its nodes and its MIG devices."""
        return host_fingerprint.key(self._choices)

    def facts(self) -> Facts:
        """Return the facts, see `probe`."""
        return probe(self._where)
