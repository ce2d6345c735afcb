# SPDX-License-Identifier: Apache-2.0
"""The set-up of a node from its start to its end.

lock        one instance on a host
programs    installed below the host's directory
specs       as soon as the driver is loaded, and again when the host changes
engine      handlers registered, engine restarted, until it answers; else reverted
wait        for a signal; then everything is undone in the opposite order
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
from cdi_gen.kubernetes.node import engine, hosts, installation, mounted_paths, restart, specs
from cdi_gen.kubernetes.node.host_process import HostView, in_host
from cdi_gen.kubernetes.node.installed_files import PROGRAMS, LowLevel, installed_files
from cdi_gen.kubernetes.node.interpreter import find_python
from cdi_gen.kubernetes.node.lock import host_lock
from cdi_gen.kubernetes.node.settings import NodeSettings, toolkit_directory
from cdi_gen.kubernetes.probe import ThisHost
from cdi_gen.paths import join
from cdi_gen.programs import install as programs
from cdi_gen.programs import watch

Report = Callable[[Finding], object]

CHECK_SECONDS = 5.0
"""The time between two looks at the host, for specs that are out of date."""


class NodeSetup:
    """A node, the settings for it, and what was done to it.

    Args:
        settings: the settings.
        report: takes findings, for the log.
        stopped: is set by a signal handler to end `run`.
    """

    def __init__(self, settings: NodeSettings, report: Report, stopped: threading.Event) -> None:
        self._settings = settings
        self._report = report
        self._stopped = stopped
        host = Root(seen_from=settings.host_root)
        self._root = settings.root or self._default_root(host)
        self._distribution: hosts.Distribution | None = None
        self._files: engine.EngineFiles | None = None
        if settings.hooks and settings.configure_engine:
            self._distribution, self._files = self._engine_files(host)
        self._view = self._host_view()
        self._socket = self._socket_path(host)
        self._waits_for: str | None = None

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
                self._follow()
            except CdiGenError:
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
        fingerprint = host.fingerprint() if host else None
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
            directory = join(self._root, installation.STORE, name)
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
            is_changed = engine.configure(
                settings, files, self._root, lambda finding: findings.append(finding.fields())
            )
            is_broken = is_changed and was_valid is True and engine.is_valid(files) is False
            return {"changed": is_changed, "broken": is_broken, "findings": findings}

        answer = in_host(self._view, configure)
        self._report_all(answer["findings"])
        if answer["broken"]:
            raise CdiGenError(
                f"{files.name} rejects the configuration with the handlers; it is reverted",
                hint="please report it with the files of the engine's configuration",
                code="CDG-N407",
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
        if self._restart_mode == "none":
            return
        before = None
        if self._restart_mode == "systemd":
            assert self._distribution is not None  # noqa: S101
            restart.by_systemd(self._distribution, self._view)
        else:
            before = restart.by_signal(self._socket, files.name, self._sleep)
        if os.path.exists(self._socket):
            restart.wait_until_ready(self._socket, files.name, before)

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
        """Wait for the end; write the specs again when the host has changed."""
        host = self._host()
        while not self._stopped.wait(CHECK_SECONDS):
            if host is None:
                continue
            fingerprint = host.fingerprint()
            if fingerprint != self._fingerprint or self._waits_for is not None:
                self._fingerprint = fingerprint
                self._write_specs(host)

    def _host(self) -> ThisHost | None:
        """Return the host that specs are written for; None if none are wanted."""
        settings = self._settings
        if not settings.cdi and not settings.needs_gpu_spec:
            return None
        hook = join(toolkit_directory(self._root), HOOK) if settings.hooks else None
        where = Where(
            host_root=settings.host_root,
            driver_root=settings.driver_root,
            dev_root=settings.dev_root,
            hook_path=hook,
        )
        return ThisHost(where, watch.of_catalogue(catalogue()))

    def _write_specs(self, host: ThisHost | None) -> None:
        """Write the specs, or say what they wait for."""
        if host is None:
            return
        try:
            wanted = specs.node_specs(host.facts().inventory, self._settings)
        except CdiGenError as error:
            if error.message != self._waits_for:
                self._waits_for = error.message
                message = f"no spec is written yet: {error.message}"
                self._report(Finding("CDG-N414", "warning", message, fix=error.hint or ""))
            return
        self._waits_for = None
        root = self._root if self._settings.hooks else None
        findings = in_host(self._view, lambda: specs.write_specs(wanted, self._settings, root))
        self._report_all(findings)
        for spec in wanted:
            path = join(self._settings.cdi_directory, spec.name)
            self._inform("CDG-N412", f"{spec.spec.kind} is in {path}")

    def _undo(self, *, programs: bool = False, quiet: bool = False) -> None:
        """Undo everything; a step that fails does not keep the others from being undone."""
        errors = [*self._tried(self._undo_engine), *self._tried(self._undo_specs)]
        if programs or (self._settings.hooks and not self._settings.keep_programs and not errors):
            errors += self._tried(self._remove_programs)
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
            is_changed = engine.revert(
                self._settings, files, self._root, lambda finding: findings.append(finding.fields())
            )
            installation.remove_created(self._root)
            return {"changed": is_changed, "findings": findings}

        answer = in_host(self._view, revert)
        self._report_all(answer["findings"])
        if answer["changed"]:
            self._restart(files)
            self._inform("CDG-N411", f"{files.name}: the handlers are removed")

    def _undo_specs(self) -> None:
        in_host(self._view, lambda: specs.remove_specs(self._settings))

    def _default_root(self, host: Root) -> str:
        """Return the directory for this host's system.

        Raises:
            CdiGenError: the system does not let programs be installed.
        """
        system = hosts.system_of(host)
        if system is None or not self._settings.hooks:
            return hosts.DEFAULT_ROOT
        if system.root is None:
            raise CdiGenError(
                f"{system.name} cannot be set up from a container: {system.reason}",
                hint="use --hook-free, and the device plugin with CDI, which needs no handler; or "
                "the system's own support of NVIDIA GPUs",
                code="CDG-N405",
            )
        return system.root

    def _engine_files(self, host: Root) -> tuple[hosts.Distribution, engine.EngineFiles]:
        """Return the engine and the host's paths of its files."""
        settings = self._settings
        configuration = settings.configuration
        if configuration is not None:
            configuration = mounted_paths.host_path(configuration, host, settings.host_root)
        drop_in = settings.drop_in_on_host or settings.drop_in
        distribution = hosts.distribution_of(host, settings.engine, drop_in or configuration)
        files = engine.EngineFiles(
            settings.engine or distribution.engine,
            configuration or distribution.configuration,
            drop_in,
        )
        return distribution, files

    def _host_view(self) -> HostView:
        settings, files = self._settings, self._files
        pairs = [
            (join(self._root, "x"), join(self._root, "x")),
            (join(settings.cdi_directory, "x"), join(settings.cdi_directory, "x")),
        ]
        if files is not None:
            pairs += [
                (settings.configuration or "", files.configuration),
                (settings.drop_in or "", files.drop_in or ""),
            ]
            if settings.crio_mode == "hook":
                hook_file = join(settings.hooks_directory, settings.hook_file)
                pairs.append((hook_file, hook_file))
        return mounted_paths.view_of(settings, pairs)

    def _socket_path(self, host: Root) -> str:
        """Return the path of the engine's socket for this process."""
        path = self._settings.socket
        if path is None:
            path = self._distribution.socket if self._distribution else ""
        elif os.path.exists(path):
            return path
        try:
            return host.open_path(host.resolve(path))
        except OSError:
            return host.open_path(path)

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
