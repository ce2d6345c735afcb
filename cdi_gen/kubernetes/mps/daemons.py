# SPDX-License-Identifier: Apache-2.0
"""Keeps the MPS control daemons of a node as the supervisor wants them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.mps.directories import MpsRoot
from cdi_gen.kubernetes.mps.errors import MpsError, SilentDaemonError
from cdi_gen.kubernetes.mps.keeper import LOG_INTERVAL, Keeper
from cdi_gen.kubernetes.mps.program import ControlProgram, control_program, driver_libraries
from cdi_gen.kubernetes.plugin.observer import Observer, Observers
from cdi_gen.kubernetes.reports import Report, Reports
from cdi_gen.kubernetes.resources.device import Resource
from cdi_gen.kubernetes.resources.mps import MpsDaemon, daemons

RETIRE_INTERVAL = 60.0
"""Seconds between two looks at the daemons that are not wanted any more."""

STOP_SECONDS = 2.0


class Mps(Protocol):
    """The control daemons of a node as the supervisor sees them."""

    def want(
        self, resources: Iterable[Resource], inventory: Inventory, changed: Callable[[], None]
    ) -> None:
        """Keep the daemons of these resources from now on.

        Args:
            resources: what the node advertises.
            inventory: the host.
            changed: is called from a thread when `unusable` has changed.
        """

    def unusable(self) -> frozenset[str]:
        """Return the UUIDs of the GPUs whose daemon does not serve."""

    def stop(self) -> None:
        """Keep no daemon any longer; those that run go on."""


class NoMps:
    """No daemons."""

    def want(
        self, resources: Iterable[Resource], inventory: Inventory, changed: Callable[[], None]
    ) -> None:
        """Keep nothing."""

    def unusable(self) -> frozenset[str]:
        """Return nothing."""
        return frozenset()

    def stop(self) -> None:
        """Stop nothing."""


class MpsDaemons:
    """The control daemons of this host.

    Args:
        root: the directory of the daemons.
        report: prints a finding; each one is printed once until it changes.
        observer: counts changes.
        starts: whether daemons are started and ended, or those of another process watched.
    """

    def __init__(
        self,
        root: MpsRoot,
        report: Report,
        observer: Observer | None = None,
        *,
        starts: bool = True,
    ) -> None:
        self._root = root
        self._starts = starts
        self._reports = Reports(report)
        self._observer: Observer = observer or Observers()
        self._changed: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._keepers: dict[str, Keeper] = {}
        self._program: ControlProgram | None = None
        self._unusable: dict[str, Finding | None] = {}
        """By the name of the daemon; None: it starts."""
        self._wanted: dict[str, MpsDaemon] = {}
        self._stopping = threading.Event()
        self._retirement: threading.Thread | None = None

    def want(
        self, resources: Iterable[Resource], inventory: Inventory, changed: Callable[[], None]
    ) -> None:
        """Keep the daemons of these resources from now on; see `Mps.want`."""
        self._changed = changed
        wanted = {daemon.name: daemon for daemon in daemons(resources)}
        program = self._usable_program(wanted, inventory)
        for name, keeper in [*self._keepers.items()]:
            if wanted.get(name) != keeper.daemon or program != self._program:
                self._keepers.pop(name).stop()
        with self._lock:
            self._wanted, self._program = wanted, program
            kept = {name: value for name, value in self._unusable.items() if name in self._keepers}
            new = wanted.keys() - self._keepers.keys()
            self._unusable = {**kept, **dict.fromkeys(new)}
        if program is None:
            return
        for name in new:
            keeper = Keeper(
                wanted[name],
                program,
                self._root,
                changed=self._keeper_changed,
                report=self._note,
                starts=self._starts,
            )
            self._keepers[name] = keeper
            keeper.start()
        if not self._starts:
            return
        if self._retirement is None and set(self._root.names()) - wanted.keys():
            self._retirement = threading.Thread(target=self._retire, name="mps", daemon=True)
            self._retirement.start()

    def _usable_program(
        self, wanted: dict[str, MpsDaemon], inventory: Inventory
    ) -> ControlProgram | None:
        """Return the host's control program; None, with a report if one is wanted, if unusable."""
        if not wanted and not self._root.names():
            return None
        root = self._root
        try:
            program = control_program(inventory, root.host_root, root.libraries)
            root.make_libraries(driver_libraries(inventory))
        except MpsError as error:
            message = f"no GPU can be shared by MPS: {error.message}"
            finding = Finding(
                error.code, "error", message, subject=error.subject, fix=error.hint or ""
            )
            self._reports.update("program", *([finding] if wanted else []))
            return None
        self._reports.update("program")
        return program

    def unusable(self) -> frozenset[str]:
        """Return the UUIDs of the GPUs whose daemon does not serve."""
        with self._lock:
            return frozenset(
                uuid
                for name in self._unusable
                if name in self._wanted
                for uuid in self._wanted[name].uuids
            )

    def stop(self) -> None:
        """Keep no daemon any longer; those that run go on."""
        self._stopping.set()
        for keeper in self._keepers.values():
            keeper.stop()
        for keeper in self._keepers.values():
            keeper.join(STOP_SECONDS)

    def _note(self, finding: Finding) -> None:
        """Report a finding about the program, which is the same for each daemon."""
        with self._lock:
            self._reports.update("users", finding)

    def _keeper_changed(self, daemon: MpsDaemon, serves: bool, finding: Finding) -> None:
        with self._lock:
            if self._wanted.get(daemon.name) != daemon:
                return
            before = self._unusable.get(daemon.name)
            served = daemon.name not in self._unusable
            if serves:
                self._unusable.pop(daemon.name, None)
            else:
                self._unusable[daemon.name] = finding
            self._reports.update(daemon.name, finding)
        # That a new daemon serves is no change of its GPUs' health.
        if served != serves and not (serves and before is None):
            for uuid in daemon.uuids:
                self._observer.health_changed(Change(uuid, healthy=serves, finding=finding))
        self._changed()

    def _retire(self) -> None:
        """End daemons that are not wanted any more, when no container uses them."""
        asked = time.monotonic()
        while not self._stopping.wait(min(LOG_INTERVAL, RETIRE_INTERVAL)):
            with self._lock:
                wanted, program = self._wanted, self._program
            names = set(self._root.names()) - wanted.keys()
            for name in names:
                self._root.shorten_log(name)
            if time.monotonic() - asked < RETIRE_INTERVAL:
                continue
            asked = time.monotonic()
            for name in names:
                if program is not None:
                    with suppress(OSError):  # no descriptors are left: later
                        self._retire_one(name, program)

    def _retire_one(self, name: str, program: ControlProgram) -> None:
        environment = self._root.environment(name)
        try:
            servers = program.ask(environment, "get_server_list").split()
            clients = [program.ask(environment, f"get_client_list {pid}") for pid in servers]
            if any(clients):
                return
            program.ask(environment, "quit")
        except SilentDaemonError:
            # One that hangs may have clients, and is not started a second time.
            if self._root.is_silent(name):
                self._root.remove(name)
        except CdiGenError:
            return
