# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen engine configure` and `unconfigure` of a configuration that lies somewhere."""

from __future__ import annotations

from pathlib import Path

from tests.cli.program import Result, cdi_gen


def configure(path: Path, *options: str, engine: str = "docker") -> Result:
    return cdi_gen("engine", "configure", engine, "--config", str(path), *options)


def unconfigure(path: Path, *options: str, engine: str = "docker") -> Result:
    return cdi_gen("engine", "unconfigure", engine, "--config", str(path), *options)
