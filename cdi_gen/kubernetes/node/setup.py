# SPDX-License-Identifier: Apache-2.0
"""The set-up of a node from its start to its end.

lock        one instance on a host
programs    installed below the host's directory
specs       as soon as the driver is loaded, and again when the host changes
engine      handlers registered, engine restarted, until it answers; else reverted
wait        for a signal; then everything is undone in the opposite order. Meanwhile handlers that
            another program has removed are registered again
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cdi_base import HOOK
from cdi_base.findings import Finding
from cdi_gen.catalogue import catalogue
from cdi_gen.errors import CdiGenError
from cdi_gen.host import Where
from cdi_gen.host.roots import Root
from cdi_gen.kubernetes.node import (
    created_directories,
    engine,
    installation,
    pending_restart,
    restart,
    specs,
)
from cdi_gen.kubernetes.node.engine_watch import EngineWatch
from cdi_gen.kubernetes.node.host_layout import host_layout
from cdi_gen.kubernetes.node.host_process import in_host
from cdi_gen.kubernetes.node.installed_files import PROGRAMS, LowLevel, installed_files
from cdi_gen.kubernetes.node.interpreter import find_python
from cdi_gen.kubernetes.node.lock import host_lock
from cdi_gen.kubernetes.node.service import Service, served
from cdi_gen.kubernetes.node.settings import NodeSettings, store_directory, toolkit_directory
from cdi_gen.kubernetes.probe import ThisHost
from cdi_gen.kubernetes.reports import pause
from cdi_gen.paths import join
from cdi_gen.programs import install as programs
from cdi_gen.programs import watch

Report = Callable[[Finding], object]

CHECK_SECONDS = 5.0
"""The time between two looks at the host, for specs that are out of date and handlers that are
gone."""

REJECTED = "CDG-N407"
"""The code of the error that the engine does not work with the handlers."""


class NodeSetup:
    """A node, the settings for it, and what was done to it.

    Args:
        settings: the settings.
        report: takes findings, for the log.
        stopped: is set by a signal handler to end `run`.
        service: runs while the node is set up.
    """

    def __init__(
        self,
        settings: NodeSettings,
        report: Report,
        stopped: threading.Event,
        service: Service | None = None,
    ) -> None:
        self._service = service
        self._settings = settings
        self._report = report
        self._stopped = stopped
        layout = host_layout(settings)
        self._root, self._view, self._socket = layout.root, layout.view, layout.socket
        self._distribution, self._files = layout.distribution, layout.files
        self._waits_for: str | None = None
        self._failures = 0
        self._next_try = 0.0
        self._watch = EngineWatch(Root(seen_from=settings.host_root))

    def run(self) -> None:
        """Set the node up, wait for `stopped`, and undo it.

        A signal before the engine is configured ends it without an error.

        Raises:
            CdiGenError: a step failed; what was done before is undone.
        """
        with host_lock(self._settings.pid_file):
            try:
                self._set_up()
                if not self._settings.wait:
                    return
                with served(self._service, self._stopped):
                    self._follow()
            except BaseException:  # an unforeseen error too must not leave the host half set up
                self._undo(quiet=True)
                raise
            self._undo()

    def undo(self) -> None:
        """Undo what an earlier `run` did, with the programs."""
        with host_lock(self._settings.pid_file):
            self._undo(programs=True)

    def _set_up(self) -> None:
        settings = self._settings
        if settings.hooks:
            self._install_programs()
        else:
            self._report(_HOOK_FREE)
        host = self._host()
        fingerprint = host.fingerprint()
        self._write_specs(host)
        self._fingerprint = fingerprint
        if self._stopped.is_set() or self._files is None:
            return
        self._configure_engine(self._files)

    def _install_programs(self) -> None:
        with self._program_tree() as (tree, python, low_level):
            placeholder = "/PLACE/OF/THE/INSTALLATION"
            generic = installed_files(self._settings, self._root, placeholder, low_level)
            name = installation.digest(tree, generic)
            directory = join(store_directory(self._root), name)
            files = installed_files(self._settings, self._root, directory, low_level)
            is_new = in_host(
                self._view, lambda: installation.install(self._root, name, tree, files, python)
            )
        state = "are installed" if is_new else "are installed already"
        self._inform("CDG-N410", f"the programs {state}: {toolkit_directory(self._root)}")

    @contextmanager
    def _program_tree(self) -> Iterator[tuple[int, str | None, LowLevel]]:
        """Open the directory with the programs: the bundle, or one that is made of hooks/.

        Yields:
            The directory, the host's interpreter unless there is a bundle, the low-level runtime.
        """
        settings, files = self._settings, self._files
        in_host(self._view, lambda: installation.check_root(self._root))
        low_level = LowLevel(None, is_found_by_name=False)
        if files is not None:
            answer = in_host(self._view, lambda: [*engine.low_level(settings, files)])
            low_level = LowLevel(*answer)
        folder = python = None
        try:
            if os.path.isdir(join(settings.bundle, PROGRAMS)):
                directory = settings.bundle
            else:
                python = in_host(self._view, find_python)
                directory = folder = tempfile.mkdtemp(prefix="cdi-gen-programs-")
                programs.write_programs(join(folder, PROGRAMS), python)
            tree = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield tree, python, low_level
            finally:
                os.close(tree)
        finally:
            if folder is not None:
                shutil.rmtree(folder)

    def _configure_engine(self, files: engine.EngineFiles) -> None:
        settings = self._settings

        def configure() -> dict[str, Any]:
            was_valid = engine.is_valid(files)
            findings: list[dict[str, str]] = []
            report = lambda finding: findings.append(finding.fields())  # noqa: E731
            is_changed = pending_restart.change(
                self._root, lambda: engine.configure(settings, files, self._root, report)
            )
            is_broken = is_changed and was_valid is True and engine.is_valid(files) is False
            return {
                "changed": is_changed,
                "broken": is_broken,
                "findings": findings,
                "paths": engine.paths(settings, files),
            }

        answer = in_host(self._view, configure)
        self._watch.note(answer["paths"])
        self._report_all(answer["findings"])
        if answer["broken"]:
            raise CdiGenError(
                f"{files.name} rejects the configuration with the handlers; it is reverted",
                hint="please report it with the files of the engine's configuration",
                code=REJECTED,
                subject=files.configuration,
            )
        names = ", ".join(settings.handlers)
        if not answer["changed"]:
            self._inform("CDG-N411", f"{files.name} has the handlers {names} already")
            return
        self._restart(files)
        self._inform("CDG-N411", f"{files.name} is configured: {names}")

    def _restart(self, files: engine.EngineFiles) -> None:
        """Restart the engine, and wait until it answers."""
        before = None
        is_visible = os.path.exists(self._socket)  # CRI-O removes its socket when it ends
        if self._restart_mode == "systemd":
            assert self._distribution is not None  # noqa: S101
            restart.by_systemd(self._distribution, self._view)
        elif self._restart_mode == "signal":
            before = restart.by_signal(self._socket, files.name, self._sleep)
        is_reachable = is_visible or os.path.exists(self._socket)
        if self._restart_mode != "none" and is_reachable:
            restart.wait_until_ready(self._socket, files.name, before, self._ready_seconds)
        in_host(self._view, lambda: pending_restart.forget(self._root))

    def _ready_seconds(self) -> float:
        """Return how long to wait for the engine; a signal during the wait shortens it."""
        is_end = self._stopped.is_set()
        return restart.READY_AT_THE_END_SECONDS if is_end else restart.READY_SECONDS

    @property
    def _restart_mode(self) -> str:
        default = "systemd" if self._files and self._files.name == "crio" else "signal"
        return self._settings.restart_mode or default

    def _sleep(self, seconds: float) -> None:
        """Sleep; only shortly after a signal, because the process may soon be killed."""
        if self._stopped.is_set():
            time.sleep(min(seconds, 1.0))
        else:
            self._stopped.wait(seconds)

    def _follow(self) -> None:
        """Wait for the end; follow changes of the host and of the engine's configuration."""
        host = self._host()
        while not self._stopped.wait(CHECK_SECONDS):
            self._follow_host(host)
            if self._files is not None:
                self._follow_engine(self._files)

    def _follow_host(self, host: ThisHost) -> None:
        """Write the specs again if the host has changed, or if they could not be written."""
        fingerprint = host.fingerprint()
        is_due = self._waits_for is not None and time.monotonic() >= self._next_try
        if fingerprint == self._fingerprint and not is_due:
            return
        self._fingerprint = fingerprint
        try:
            self._write_specs(host)
        except CdiGenError as error:
            # A full file system, for example, is no reason to take the handlers from the node.
            self._wait_for(error)
        self._failures = 0 if self._waits_for is None else self._failures + 1
        self._next_try = time.monotonic() + pause(self._failures)

    def _follow_engine(self, files: engine.EngineFiles) -> None:
        """Register the handlers again, if another program has removed them.

        Raises:
            CdiGenError: the engine does not work with them.
        """
        if not self._watch.is_changed(time.monotonic()):
            return
        try:
            self._configure_engine(files)
        except CdiGenError as error:
            if error.code == REJECTED:
                raise
            self._report(error.finding)

    def _host(self) -> ThisHost:
        """Return the host that specs are written for."""
        settings = self._settings
        hook = join(toolkit_directory(self._root), HOOK) if settings.hooks else None
        where = Where(
            host_root=settings.host_root,
            driver_root=settings.driver_root,
            dev_root=settings.dev_root,
            hook_path=hook,
        )
        return ThisHost(where, watch.of_catalogue(catalogue()))

    def _write_specs(self, host: ThisHost) -> None:
        """Write the specs, or say what they wait for."""
        try:
            wanted = specs.node_specs(host.facts().inventory, self._settings)
        except CdiGenError as error:
            self._wait_for(error)
            return
        root = self._root if self._settings.hooks else None
        findings = in_host(self._view, lambda: specs.write_specs(wanted, self._settings, root))
        self._waits_for = None
        self._report_all(findings)
        for spec in wanted:
            path = join(self._settings.cdi_directory, spec.name)
            self._inform("CDG-N412", f"{spec.spec.kind} is in {path}")

    def _wait_for(self, error: CdiGenError) -> None:
        """Say once what the specs wait for."""
        if error.message != self._waits_for:
            self._waits_for = error.message
            message = f"no spec is written yet: {error.message}"
            self._report(Finding("CDG-N414", "warning", message, fix=error.hint or ""))

    def _undo(self, *, programs: bool = False, quiet: bool = False) -> None:
        """Undo everything; a step that fails does not keep the others from being undone."""
        errors = [*self._tried(self._undo_engine), *self._tried(self._undo_specs)]
        removes = programs or (self._settings.hooks and not self._settings.keep_programs)
        if removes and not errors:
            errors += self._tried(self._remove_programs)
        elif removes:
            # An engine that was not restarted still starts containers with the handlers.
            self._inform("CDG-N410", f"the programs stay: {toolkit_directory(self._root)}")
        if errors and not quiet:
            raise errors[0]
        for error in errors:
            self._report(error.finding)

    def _tried(self, step: Callable[[], None]) -> Iterator[CdiGenError]:
        """Take a step; yield its error."""
        try:
            step()
        except CdiGenError as error:
            yield error

    def _remove_programs(self) -> None:
        for message in in_host(self._view, lambda: installation.remove(self._root)):
            self._report(Finding("CDG-N413", "warning", message))

    def _undo_engine(self) -> None:
        files = self._files
        if files is None:
            return

        def revert() -> dict[str, Any]:
            findings: list[dict[str, str]] = []
            report = lambda finding: findings.append(finding.fields())  # noqa: E731
            is_changed = pending_restart.change(
                self._root, lambda: engine.revert(self._settings, files, self._root, report)
            )
            created_directories.remove_empty(created_directories.read(self._root))
            return {"changed": is_changed, "findings": findings}

        answer = in_host(self._view, revert)
        self._report_all(answer["findings"])
        if answer["changed"]:
            self._restart(files)
            self._inform("CDG-N411", f"{files.name}: the handlers are removed")

    def _undo_specs(self) -> None:
        in_host(self._view, lambda: specs.remove_specs(self._settings))

    def _inform(self, code: str, message: str) -> None:
        self._report(Finding(code, "info", message))

    def _report_all(self, findings: list[dict[str, str]]) -> None:
        for fields in findings:
            code, severity, message = (fields.pop(name) for name in ("code", "severity", "message"))
            self._report(Finding(code, severity, message, **fields))  # type: ignore[arg-type]


_HOOK_FREE = Finding(
    "CDG-N415",
    "warning",
    "no program is installed and no handler is registered: pods get GPUs by CDI alone; libraries "
    "are found only in the default directories of an image, CUDA compat libraries are not used, "
    "and RuntimeClasses nvidia, nvidia-cdi and nvidia-legacy do not work",
)
