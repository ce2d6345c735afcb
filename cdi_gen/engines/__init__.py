# SPDX-License-Identifier: Apache-2.0
"""Container engines: what they are told of CDI and of runtimes, and what there is to tell them.

One module an engine. Each has `findings`, what is installed; and `plan`, which files are to become
what. A change of a file is a pure function of its text; nothing here writes but
`configuration_file.replace`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Finding, Plan, Wishes

NAMES = ("docker", "containerd", "crio", "podman", "nerdctl", "buildah")


class Engine(Protocol):
    """What each engine's module has."""

    def plan(self, wishes: Wishes, machine: Machine) -> Plan:
        """What is to be done.

        Raises:
            UsageError: something is asked for that the engine does not have.
            CdiGenError: its configuration cannot be read.
        """

    def findings(self, machine: Machine) -> list[Finding]:
        """What is installed; a configuration that cannot be read is a note in it."""


def engine(name: str) -> Engine:
    """The module of an engine; tomlkit, which takes 20 ms, comes with those that need it."""
    module: Engine = import_module(f"cdi_gen.engines.{name}")
    return module
