# SPDX-License-Identifier: Apache-2.0
"""Container engines: their configuration for CDI devices and runtimes, and its changes.

Each engine has a module or a package with two functions: `statuses` describes the installed engine,
`plan` returns the changes of its files. A change is a pure function of a file's text; only
`change.replacement.replace` writes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Plan, Request
from cdi_gen.engines.status import EngineStatus

NAMES = ("docker", "containerd", "crio", "podman", "nerdctl", "buildah")


class Engine(Protocol):
    """The interface of each engine's module."""

    def plan(self, request: Request, machine: Machine) -> Plan:
        """The changes that a request needs.

        Raises:
            UsageError: the engine does not support an option of the request.
            CdiGenError: the engine's configuration cannot be read.
        """

    def statuses(self, machine: Machine) -> list[EngineStatus]:
        """The installed engines; a configuration that cannot be read is a finding."""


def engine(name: str) -> Engine:
    """The module of an engine; it is imported on demand, because tomlkit takes 20 ms."""
    module: Engine = import_module(f"cdi_gen.engines.{name}")
    return module


def statuses(machine: Machine, names: Sequence[str] = NAMES) -> list[EngineStatus]:
    """The installed engines of these names, in their order.

    A thread asks each engine, because most of the time is that of the programs that it starts.

    Raises:
        CdiGenError: as an engine's `statuses`; the first one.
    """
    answers: dict[str, list[EngineStatus]] = {}
    errors: list[Exception] = []

    def ask(name: str) -> None:
        try:
            answers[name] = engine(name).statuses(machine)
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [status for name in names for status in answers[name]]
