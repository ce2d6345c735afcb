# SPDX-License-Identifier: Apache-2.0
"""node_exporter of Debian, in the cache and not installed: a program with Prometheus's exporter-toolkit."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import debian
from tests.lab.cache import cached

SUITE = "sid"
"""1.10 and later."""

_PACKAGE = "prometheus-node-exporter"


def program() -> Path:
    """The path of the program.

    Raises:
        LabUnavailableError: apt is missing, or the package cannot be had.
    """

    def build(into: Path) -> None:
        packages = into / "packages"
        packages.mkdir()
        package = debian.unpack((_PACKAGE,), packages, suite=SUITE)[_PACKAGE]
        (package / "usr/bin" / _PACKAGE).rename(into / "node_exporter")
        shutil.rmtree(packages)

    return cached(f"node-exporter-{SUITE}", _PACKAGE, build) / "node_exporter"
