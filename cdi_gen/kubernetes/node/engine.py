# SPDX-License-Identifier: Apache-2.0
"""Registers the handlers in the engine's configuration, and reverts it. Runs in the host's root."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from cdi_base import nvidia
from cdi_base.files import is_temporary_name
from cdi_base.findings import Finding
from cdi_gen import engines
from cdi_gen.engines import hooks_d, low_level_runtime
from cdi_gen.engines.change import configuration_file, pending_change, replacement
from cdi_gen.engines.change.configuration_file import ConfigurationFile
from cdi_gen.engines.change.pending_change import Pending
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
from cdi_gen.engines.plan import Change, ManualEdit, Plan, Request, Runtime
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node import created_directories
from cdi_gen.kubernetes.node.installed_files import LowLevel
from cdi_gen.kubernetes.node.settings import NodeSettings, toolkit_directory
from cdi_gen.paths import join, parent

Report = Callable[[Finding], object]

NO_RECORD = "CDG-E006"
"""Of a file that was not changed: nothing to report when all is reverted."""


class EngineFiles(NamedTuple):
    """The engine, and its files on the host."""

    name: str
    configuration: str
    drop_in: str | None = None
    """None: the engine's default, or the distribution's."""


class ManualEditError(CdiGenError):
    """The engine's configuration can only be changed by hand; `text` is what it needs."""

    code = "CDG-E011"

    def __init__(self, path: str, texts: list[str], edit: ManualEdit) -> None:
        self.text = "\n".join(texts)
        super().__init__(
            f"{path} {edit.reason}: cdi-gen does not change it",
            hint=f"add the tables to {edit.location}: {self.text!r}",
            subject=path,
        )


def low_level(settings: NodeSettings, files: EngineFiles) -> LowLevel:
    """Return the low-level runtime of the engine.

    Raises:
        CdiGenError: the engine's configuration cannot be read.
    """
    machine = Machine()
    names = (machine.find_program(name, USUAL_DIRECTORIES) for name in low_level_runtime.RUNTIMES)
    by_name = next(filter(None, names), None)
    program = None
    if settings.configure_engine:
        runtime = Runtime(settings.runtime_name, nvidia.RUNTIME)
        program = _plan(settings, files, runtime, machine).low_level
    program = program or by_name
    is_same = bool(program and by_name) and os.path.realpath(str(program)) == os.path.realpath(
        str(by_name)
    )
    return LowLevel(program, is_same)


def configure(settings: NodeSettings, files: EngineFiles, root: str, report: Report) -> bool:
    """Register the handlers; return whether a file was changed.

    Raises:
        ManualEditError: the configuration is generated, and nothing of it can be changed.
        CdiGenError: a file cannot be read, edited or written; the files before it are changed.
    """
    machine = Machine()
    reported: set[Finding] = set()
    is_changed = False
    manual: list[tuple[str, ManualEdit]] = []
    for name, program in settings.handlers.items():
        is_default = settings.set_as_default and name == settings.runtime_name
        path = join(toolkit_directory(root), program)
        plan = _plan(settings, files, Runtime(name, path, is_default), machine)
        for finding in plan.findings:
            if finding not in reported:
                report(finding)
                reported.add(finding)
        if plan.manual:
            if plan.manual.text:
                manual.append((plan.manual.text, plan.manual))
            continue
        for change in plan.changes:
            pending = pending_change.applied(change, machine)
            if pending:
                _write(pending, root, machine)
                is_changed = True
    if manual:
        texts = [text for text, _ in manual]
        raise ManualEditError(files.configuration, texts, manual[0][1])
    return is_changed


def paths(settings: NodeSettings, files: EngineFiles) -> list[str]:
    """Return the files that have the handlers.

    Raises:
        CdiGenError: the engine's configuration cannot be read.
    """
    name, program = next(iter(settings.handlers.items()))
    plan = _plan(settings, files, Runtime(name, program), Machine())
    return [change.path for change in plan.changes]


def revert(settings: NodeSettings, files: EngineFiles, root: str, report: Report) -> bool:
    """Revert what `configure` did, and nothing else; return whether a file was changed.

    Raises:
        CdiGenError: a file or its record cannot be read or written.
    """
    machine = Machine()
    request = Request(
        configuration=files.configuration,
        drop_in=files.drop_in if files.name != "docker" else None,
        revert=True,
    )
    changes = engines.engine(files.name).plan(request, machine).changes
    if settings.crio_mode == "hook":
        changes = (*changes, _hook_change(settings, root))
    is_changed = False
    for change in reversed(changes):
        _discard_temporary(change.path)
        pending = pending_change.reverted(change, None, machine)
        if pending is None:
            _forget(configuration_file.read(change.path))
            continue
        for finding in pending.kept:
            if finding.code != NO_RECORD:
                report(finding)
        if pending.text != pending.file.text:
            _write(pending, root, machine)
            is_changed = True
        elif not pending.record.steps:
            _forget(pending.file)
    return is_changed


def is_valid(files: EngineFiles, machine: Machine | None = None) -> bool | None:
    """Whether the engine can read its configuration; None if it has no way to tell."""
    machine = machine or Machine()
    program = machine.program("containerd")
    if files.name != "containerd" or program is None or not files.configuration.endswith(".toml"):
        return None
    if not os.path.exists(files.configuration):
        return None
    words = (program, "--config", files.configuration, "config", "dump")
    # Twice, because a loaded machine may take longer than the time that a program has.
    return machine.output(*words) is not None or machine.output(*words) is not None


def _plan(settings: NodeSettings, files: EngineFiles, runtime: Runtime, machine: Machine) -> Plan:
    if files.name == "crio" and settings.crio_mode == "hook":
        root = parent(parent(runtime.path))
        return Plan((_hook_change(settings, root),))
    request = Request(
        cdi=settings.enable_cdi_in_engine,
        runtime=runtime,
        runtime_name=runtime.name,
        configuration=files.configuration,
        drop_in=files.drop_in if files.name != "docker" else None,
        executable=settings.executable if files.name == "containerd" else None,
        launcher=False,
    )
    return engines.engine(files.name).plan(request, machine)


def _hook_change(settings: NodeSettings, root: str) -> Change:
    """Return the change that runs the prestart hook for every container of CRI-O."""
    hook = join(toolkit_directory(root), nvidia.PRESTART_HOOK)
    path = join(settings.hooks_directory, settings.hook_file)
    return Change(path, lambda _: hooks_d.hook_file(hook))


def _write(pending: Pending, root: str, machine: Machine) -> None:
    file = pending.file
    configuration_file.check(file.path, trusted=machine.trusted)
    created_directories.note(root, [parent(file.real_path)])
    replacement.replace(file, pending.text, pending.record, first=pending.first)
    if not pending.record.steps:
        replacement.remove_backup(file, pending.text)
        if pending.text is None:
            _discard(file.backup)
        _discard(file.last_backup)


def _forget(file: ConfigurationFile) -> None:
    """Remove the record and the backups of a file from which others have removed our values."""
    _discard(file.record)
    replacement.remove_backup(file, file.text)
    _discard(file.last_backup)


def _discard_temporary(path: str) -> None:
    """Remove temporary files that a killed process has left beside a configuration file."""
    directory = parent(os.path.realpath(path))
    for folder in (directory, parent(directory)) if directory.endswith(".d") else (directory,):
        with suppress(OSError):
            for entry in [*os.scandir(folder)]:
                if is_temporary_name(entry.name) and entry.stat(follow_symlinks=False).st_uid == 0:
                    os.unlink(entry.path)


def _discard(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
