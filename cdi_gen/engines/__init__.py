# SPDX-License-Identifier: Apache-2.0
"""Container engines: how they are configured for CDI devices and runtimes, and how to change that.

One module or package an engine. Each has `statuses`, for what is installed, and `plan`, which
returns the changes of files. A change is a pure function of a file's text; only
`change.replacement.replace` writes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Plan, Request
from cdi_gen.engines.status import EngineStatus

NAMES = ("docker", "containerd", "crio", "podman", "nerdctl", "buildah")


class Engine(Protocol):
    """What the module of each engine has."""

    def plan(self, request: Request, machine: Machine) -> Plan:
        """The changes that a request needs.

        Raises:
            UsageError: the engine does not support what is asked for.
            CdiGenError: its configuration cannot be read.
        """

    def statuses(self, machine: Machine) -> list[EngineStatus]:
        """What is installed; a configuration that cannot be read becomes a note."""


def engine(name: str) -> Engine:
    """The module of an engine, imported when needed: tomlkit takes 20 ms."""
    module: Engine = import_module(f"cdi_gen.engines.{name}")
    return module
