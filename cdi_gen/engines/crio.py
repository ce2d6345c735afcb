# SPDX-License-Identifier: Apache-2.0
"""CRI-O, which supports CDI devices without configuration, and merges its TOML drop-ins.

CRI-O reads every file in its drop-in directory, whatever its name, so we keep no other file there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import facts, low_level_runtime, spec_directories
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change, Plan, Request, Runtime, reject_options
from cdi_gen.engines.runtimes import another_default, derive_runtime, keep_default_runtime
from cdi_gen.engines.status import EngineStatus, cdi_findings, engine_status, unreadable
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_settings import Settings, with_settings
from cdi_gen.engines.text.toml_text import Table, get
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import join, parent

NAME = "crio"

_RUNTIME = ("crio", "runtime")
_RUNTIMES = (*_RUNTIME, "runtimes")
_DEFAULT = (*_RUNTIME, "default_runtime")


def plan(request: Request, machine: Machine) -> Plan:
    """The changes for CRI-O; see `cdi_gen.engines.Engine`."""
    reject_options(NAME, request, "--executable-path", "--rootless", "--oci-hook")
    crio = facts.crio()
    path = request.configuration or crio.configuration
    drop_in = request.drop_in or join(parent(path), crio.drop_in)
    section = _read(machine, path, without=drop_in)
    findings: list[Finding] = []
    version = machine.version(machine.program(NAME))
    if request.cdi:
        findings += cdi_findings(NAME, "CRI-O", version, since=crio.cdi_since, by_default=True)
    if request.cdi and at_least(version, crio.cdi_since, unknown=True):
        directories = section.get("cdi_spec_dirs")
        if directories is not None and not spec_directories.includes_a_default(directories):
            findings.append(
                spec_directories.no_default_is_read("CRI-O", "cdi_spec_dirs", directories, path)
            )

    low_level = _low_level_runtime(section, machine) if request.runtime else None
    start = low_level_runtime.with_launcher(NAME, crio.configuration, request, low_level, machine)
    settings = runtime_settings(section, start.request.runtime) if start.request.runtime else ()
    findings += _overriding_files(machine, path, drop_in, start.request.runtime)
    default = section.get("default_runtime")
    is_defined = default in (section.get("runtimes") or {})
    change = Change(
        drop_in,
        lambda text: with_settings(text, settings),
        toml_text.TOML,
        tuple(key for key, _ in settings),
        keep_default_runtime(toml_text.TOML, _RUNTIMES, _DEFAULT, None if is_defined else default),
    )
    return Plan(
        (*start.changes, change),
        (*findings, *start.findings),
        crio.restart,
        low_level=low_level,
    )


def runtime_settings(section: Table, runtime: Runtime) -> Settings:
    """The keys of a runtime: those of the default runtime, except the program.

    Args:
        section: the table ``crio.runtime`` of all other files.
        runtime: the runtime to register.
    """
    runtimes = get(section, ("runtimes",)) or {}
    default = section.get("default_runtime")
    model: Any = next(
        (runtimes[name] for name in (default, "runc", "crun") if name in runtimes), {}
    )
    entry = derive_runtime(model)
    for name in facts.crio().program_keys:
        entry.pop(name, None)
    entry["runtime_path"] = runtime.path
    entry["runtime_type"] = "oci"
    settings: list[tuple[Path, Any]] = [((*_RUNTIMES, runtime.name), entry)]
    if runtime.default:
        settings.append((_DEFAULT, runtime.name))
    return settings


def _overriding_files(
    machine: Machine, path: str, drop_in: str, runtime: Runtime | None
) -> Iterator[Finding]:
    """Warn of files that are read after ours and say otherwise."""
    if runtime is None:
        return
    for name in _drop_ins(machine, path):
        if parent(name) != parent(drop_in) or name <= drop_in:
            continue
        section = get(toml_text.parse(machine.text(name), name), _RUNTIME) or {}
        default = section.get("default_runtime")
        if runtime.default and default not in {None, runtime.name}:
            yield another_default(name, drop_in, str(default))
        if runtime.name in (section.get("runtimes") or {}):
            message = f"{name} is read after {drop_in} and defines another runtime {runtime.name}"
            yield Finding("CDG-E105", "warning", message, subject=name)


def _low_level_runtime(section: Table, machine: Machine) -> str | None:
    """The program of the default runtime; its name, if CRI-O looks for that in its PATH."""
    runtimes = section.get("runtimes") or {}
    for name in dict.fromkeys((section.get("default_runtime"), "crun", "runc")):
        entry = runtimes.get(name)
        if not isinstance(entry, dict) or entry.get("runtime_type") == "vm":
            continue
        program = low_level_runtime.program_of(str(entry.get("runtime_path") or name), machine)
        if program:
            return program
    return None


def _read(machine: Machine, path: str, *, without: str | None = None) -> Table:
    """The table ``crio.runtime`` of all files, a later one over those before."""
    section: Table = {}
    for name in (path, *_drop_ins(machine, path)):
        text = machine.text(name) if name != without else None
        table = get(toml_text.parse(text, name), _RUNTIME)
        if isinstance(table, dict):
            runtimes = {**(section.get("runtimes") or {}), **(table.get("runtimes") or {})}
            section = {**section, **table, "runtimes": runtimes}
    return section


def _drop_ins(machine: Machine, path: str) -> tuple[str, ...]:
    return machine.files(join(parent(path), parent(facts.crio().drop_in)))


def statuses(machine: Machine) -> list[EngineStatus]:
    """The effective configuration of CRI-O, merged from its files."""
    crio = facts.crio()
    program = machine.program(NAME)
    if not program:
        return []
    findings: tuple[Finding, ...] = ()
    section: Table = {}
    try:
        section = _read(machine, crio.configuration)
    except CdiGenError as error:
        findings = (unreadable(error, crio.configuration),)
    directories = section.get("cdi_spec_dirs")
    return [
        engine_status(
            NAME,
            program=program,
            version=machine.version(program),
            cdi_since=crio.cdi_since,
            cdi="on" if directories != [] else "off",
            spec_directories=directories or SPEC_DIRECTORIES,
            source=parent(crio.configuration) if directories is not None else "default",
            runtimes=(
                (name, str(entry.get("runtime_path") or ""))
                for name, entry in (section.get("runtimes") or {}).items()
                if isinstance(entry, dict)
            ),
            findings=findings,
            default_runtime=section.get("default_runtime"),
        )
    ]
