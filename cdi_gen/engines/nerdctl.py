# SPDX-License-Identifier: Apache-2.0
"""nerdctl, which reads CDI specs itself; its configuration ``nerdctl.toml`` has no drop-ins."""

from __future__ import annotations

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import facts, spec_directories
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change, Plan, Request, reject_options
from cdi_gen.engines.status import EngineStatus, cdi_findings, engine_status, unreadable
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_settings import with_settings
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.paths import join

NAME = "nerdctl"

_DIRECTORIES = ("cdi_spec_dirs",)


def plan(request: Request, machine: Machine) -> Plan:
    """The changes for nerdctl; see `cdi_gen.engines.Engine`."""
    reject_options(NAME, request, "--drop-in", "--executable-path", "--oci-hook")
    if request.runtime:
        raise UsageError(
            "nerdctl accepts a runtime only by its path",
            hint=f"nerdctl run --runtime {request.runtime.path}",
            code="CDG-E012",
        )
    path = request.configuration or _file(machine, rootless=request.rootless)
    version = machine.version(machine.program(NAME))
    configured = toml_text.parse(machine.text(path), path).get("cdi_spec_dirs")
    since = facts.nerdctl().cdi_since
    findings: list[Finding] = []
    all_directories = (*SPEC_DIRECTORIES, *_user_directories(machine))
    settings: list[tuple[Path, list[str]]] = []
    if request.cdi:
        findings += cdi_findings(NAME, NAME, version, since=since, by_default=True)
    if request.cdi and at_least(version, since, unknown=True):
        if request.rootless and configured is None:
            settings.append((_DIRECTORIES, [*all_directories]))
        elif request.rootless and not _are_equal(configured, all_directories):
            findings.append(spec_directories.kept(path))

    change = Change(
        path, lambda text: with_settings(text, settings), toml_text.TOML, (_DIRECTORIES,)
    )
    return Plan((change,), tuple(findings))


def _are_equal(configured: object, directories: tuple[str, ...]) -> bool:
    """Whether a file has these directories, whatever their spelling."""
    return isinstance(configured, list) and [
        spec_directories.normalized(str(directory)) for directory in configured
    ] == [*map(spec_directories.normalized, directories)]


def _file(machine: Machine, *, rootless: bool) -> str:
    nerdctl = facts.nerdctl()
    users = join(machine.config_home, nerdctl.user_configuration)
    return machine.environment.get("NERDCTL_TOML") or (users if rootless else nerdctl.configuration)


def _user_directories(machine: Machine) -> tuple[str, ...]:
    """The only directories that a user's nerdctl reads by default."""
    return join(machine.config_home, "cdi"), join(machine.runtime_directory, "cdi")


def statuses(machine: Machine) -> list[EngineStatus]:
    """The status of nerdctl for this user."""
    program = machine.program(NAME)
    if not program:
        return []
    rootless = machine.uid != 0
    path = _file(machine, rootless=rootless)
    findings: tuple[Finding, ...] = ()
    configured = None
    try:
        configured = toml_text.parse(machine.text(path), path).get("cdi_spec_dirs")
    except CdiGenError as error:
        findings = (unreadable(error, path),)
    defaults = _user_directories(machine) if rootless else SPEC_DIRECTORIES
    return [
        engine_status(
            NAME,
            program=program,
            version=machine.version(program),
            rootless=rootless,
            cdi_since=facts.nerdctl().cdi_since,
            cdi="on" if configured != [] else "off",
            spec_directories=configured if configured is not None else defaults,
            source=path if configured is not None else "default",
            findings=findings,
        )
    ]
