# SPDX-License-Identifier: Apache-2.0
"""``containers.conf`` and its drop-ins, which both Podman and Buildah read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import low_level_runtime, spec_directories
from cdi_gen.engines.facts import ContainersConfFacts
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change, Plan, Request, Runtime
from cdi_gen.engines.runtimes import another_default, keep_default_runtime
from cdi_gen.engines.status import EngineStatus, cdi_findings, engine_status, unreadable
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_settings import Settings, with_settings
from cdi_gen.engines.text.toml_text import get
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.paths import join, parent

_DIRECTORIES = ("engine", "cdi_spec_dirs")
_RUNTIMES = ("engine", "runtimes")
_DEFAULT = ("engine", "runtime")


class Configuration(NamedTuple):
    """What the files say together; a later file counts before an earlier one."""

    directories: tuple[str, ...] | None = None
    """``cdi_spec_dirs``; None if no file has it."""
    runtimes: dict[str, str] = {}  # noqa: RUF012 - it is not changed
    """The program of each runtime: the first of its list that exists, else the first."""
    source: str = "default"
    """The file that sets the directories."""
    default: str | None = None
    """The default runtime."""


def plan(engine: str, facts: ContainersConfFacts, request: Request, machine: Machine) -> Plan:
    """The changes for one of the engines."""
    version = machine.version(machine.program(engine))
    base = _user_directory(machine) if request.rootless else facts.configuration_directory
    path = request.drop_in or join(base, facts.drop_in)
    if not path.endswith(".conf"):
        raise UsageError(f"--drop-in {path}: {engine} reads only *.conf", code="CDG-U002")
    configuration = _read(facts, machine, rootless=request.rootless, without=path)
    findings: list[Finding] = []
    directories: tuple[str, ...] = ()
    if request.cdi:
        findings += cdi_findings(engine, engine, version, since=facts.cdi_since, by_default=True)
    if request.cdi and at_least(version, facts.cdi_since, unknown=True):
        directories, warnings = _missing_directories(
            engine, facts, version, configuration, request, machine
        )
        findings += warnings
    low_level = _low_level_runtime(configuration, machine) if request.runtime else None
    start = low_level_runtime.with_launcher(engine, None, request, low_level, machine)
    settings = _settings(directories, start.request.runtime)
    findings += _overriding_files(facts, machine, path, request)
    undefined_default = (
        configuration.default if configuration.default not in configuration.runtimes else None
    )
    change = Change(
        path,
        lambda text: with_settings(text, settings),
        toml_text.TOML,
        tuple(key for key, _ in settings),
        keep_default_runtime(toml_text.TOML, _RUNTIMES, _DEFAULT, undefined_default),
    )
    return Plan((*start.changes, change), (*findings, *start.findings))


def _missing_directories(
    engine: str,
    facts: ContainersConfFacts,
    version: str | None,
    configuration: Configuration,
    request: Request,
    machine: Machine,
) -> tuple[tuple[str, ...], list[Finding]]:
    """The directories to set, none if they are as they should be; and warnings about them."""
    warnings = []
    user_directories = (join(machine.runtime_directory, "cdi"),) if request.rootless else ()
    if user_directories and not at_least(version, facts.run_spec_directories_since, unknown=True):
        fixed = " and ".join(SPEC_DIRECTORIES)
        message = f"{engine} run {version} ignores cdi_spec_dirs and reads only {fixed}"
        warnings.append(Finding("CDG-E106", "warning", message, subject=engine))
    current = configuration.directories or _default_directories(
        facts, version, facts.build_spec_directories_since
    )
    missing = [
        directory
        for directory in (*SPEC_DIRECTORIES, *user_directories)
        if not spec_directories.includes(current, directory)
    ]
    heeds_key = at_least(version, facts.build_spec_directories_since, unknown=True)
    if not missing or not heeds_key:
        return (), warnings
    if configuration.directories is not None:
        return (), [*warnings, spec_directories.kept(configuration.source)]
    return (*current, *missing), warnings


def _overriding_files(
    facts: ContainersConfFacts, machine: Machine, path: str, request: Request
) -> Iterator[Finding]:
    """Warn of files that are read after ours and say otherwise."""
    runtime = request.runtime
    files = _files(facts, machine, rootless=request.rootless, also=path)
    if not runtime or not runtime.default or path not in files:
        return
    for name in files[files.index(path) + 1 :]:
        engine = get(toml_text.parse(machine.text(name), name), ("engine",)) or {}
        default = engine.get("runtime")
        if default not in {None, runtime.name}:
            yield another_default(name, path, str(default))


def _low_level_runtime(configuration: Configuration, machine: Machine) -> str | None:
    """The program of the default runtime, which a file gives by name or path; else crun."""
    names = (configuration.default,) if configuration.default else ("crun", "runc")
    for name in names:
        program = low_level_runtime.program_of(configuration.runtimes.get(name) or name, machine)
        if program:
            return program
    return None


def _settings(directories: tuple[str, ...], runtime: Runtime | None) -> Settings:
    settings: list[tuple[Path, Any]] = []
    if directories:
        settings.append((_DIRECTORIES, [*directories]))
    if runtime:
        settings.append(((*_RUNTIMES, runtime.name), [runtime.path]))
        if runtime.default:
            settings.append((_DEFAULT, runtime.name))
    return settings


def _read(
    facts: ContainersConfFacts, machine: Machine, *, rootless: bool, without: str | None = None
) -> Configuration:
    """Read the files in the order of containers.conf(5), except the file ``without``.

    Raises:
        CdiGenError: one of them cannot be read.
    """
    directories: tuple[str, ...] | None = None
    runtimes: dict[str, str] = {}
    source = "default"
    default: str | None = None
    for path in _files(facts, machine, rootless=rootless):
        text = machine.text(path) if path != without else None
        engine = get(toml_text.parse(text, path), ("engine",))
        if not isinstance(engine, dict):
            continue
        entries = engine.get("cdi_spec_dirs")
        if isinstance(entries, list):
            listed = tuple(entry for entry in entries if isinstance(entry, str))
            # {append=true} in a list: the list does not replace those of earlier files.
            appends = any(isinstance(entry, dict) and entry.get("append") for entry in entries)
            directories = (*(directories or ()), *listed) if appends else listed
            source = path
        default = str(engine.get("runtime") or "") or default
        for name, programs in (engine.get("runtimes") or {}).items():
            if isinstance(programs, list):
                paths = [str(program) for program in programs if isinstance(program, str)]
                runtimes[name] = next(filter(machine.exists, paths), (paths or [""])[0])
    return Configuration(directories, runtimes, source, default)


def _files(
    facts: ContainersConfFacts, machine: Machine, *, rootless: bool, also: str | None = None
) -> list[str]:
    """The files in the order of reading, with the drop-in ``also``, which may not exist yet."""
    override = machine.environment.get("CONTAINERS_CONF")
    if override:
        return [override]
    files = [facts.vendor_configuration]
    users = [_user_directory(machine)] if rootless else []
    for base in (facts.configuration_directory, *users):
        directory = join(base, parent(facts.drop_in))
        drop_ins = {*machine.files(directory, ".conf")}
        if also and parent(also) == directory:
            drop_ins.add(also)
        files += [join(base, "containers.conf"), *sorted(drop_ins)]
    return files


def _user_directory(machine: Machine) -> str:
    return join(machine.config_home, "containers")


def statuses(engine: str, facts: ContainersConfFacts, machine: Machine) -> list[EngineStatus]:
    """The status of one of the engines for this user."""
    program = machine.program(engine)
    if not program:
        return []
    version = machine.version(program)
    rootless = machine.uid != 0
    findings: list[Finding] = []
    configuration = Configuration()
    try:
        configuration = _read(facts, machine, rootless=rootless)
    except CdiGenError as error:
        findings.append(unreadable(error, error.subject))
    run_since, build_since = facts.run_spec_directories_since, facts.build_spec_directories_since
    for_run = _directories(facts, version, configuration, run_since)
    for_build = _directories(facts, version, configuration, build_since)
    if configuration.directories is not None and for_build != configuration.directories:
        message = f"{configuration.source}: {engine} {version} ignores cdi_spec_dirs"
        findings.append(Finding("CDG-E106", "info", message, subject=configuration.source))
    has_cdi = at_least(version, facts.cdi_since, unknown=True)
    complete = all(
        spec_directories.includes(directories, default)
        for directories in (for_run, for_build)
        for default in SPEC_DIRECTORIES
    )
    if has_cdi and not complete:
        command = engine if for_run == for_build else f"{engine} build"
        paths = " ".join(for_build)
        fix = f"run: cdi-gen engine configure {engine}"
        message = f"{command} reads specs only in {paths}"
        findings.append(Finding("CDG-E115", "warning", message, subject=engine, fix=fix))
    return [
        engine_status(
            engine,
            program=program,
            version=version,
            rootless=rootless,
            cdi_since=facts.cdi_since,
            cdi="on",
            spec_directories=for_run,
            source=configuration.source if for_run == configuration.directories else "default",
            runtimes=configuration.runtimes.items(),
            findings=findings,
            default_runtime=configuration.default,
        )
    ]


def _directories(
    facts: ContainersConfFacts, version: str | None, configuration: Configuration, since: str
) -> tuple[str, ...]:
    """The directories that are read; ``cdi_spec_dirs`` counts from the version ``since`` on."""
    if configuration.directories is not None and at_least(version, since, unknown=True):
        return configuration.directories
    return _default_directories(facts, version, since)


def _default_directories(
    facts: ContainersConfFacts, version: str | None, since: str
) -> tuple[str, ...]:
    """The directories that a version reads where none are configured; see `facts`."""
    has_both = at_least(version, facts.both_directories_since, unknown=True)
    heeds_key = at_least(version, since, unknown=True)
    if heeds_key and not has_both:
        return SPEC_DIRECTORIES[:1]
    return SPEC_DIRECTORIES
