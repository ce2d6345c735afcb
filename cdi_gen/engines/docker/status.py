# SPDX-License-Identifier: Apache-2.0
"""The status of Docker, from ``docker info`` or else from its files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import facts
from cdi_gen.engines.docker import daemon_json
from cdi_gen.engines.docker.configure import NAME
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine, printed_version
from cdi_gen.engines.status import CdiState, EngineStatus, cdi_state, engine_status, unreadable
from cdi_gen.engines.text import json_parser
from cdi_gen.errors import CdiGenError


def statuses(machine: Machine) -> list[EngineStatus]:
    """The machine's Docker, and the user's own if there is one."""
    program = machine.program("dockerd")
    info = _info(machine)
    if not program and not info:
        return []
    info_is_rootless = "name=rootless" in (info.get("SecurityOptions") or ())
    machine_info, user_info = ({}, info) if info_is_rootless else (info, {})
    result = [_status(machine, program, machine_info, rootless=False)]
    user_path = daemon_json.default_path(machine, rootless=True)
    if machine.uid and (user_info or machine.text(user_path) is not None):
        result.append(_status(machine, program, user_info, rootless=True))
    return result


def _info(machine: Machine) -> dict[str, Any]:
    """What ``docker info`` prints; nothing if no daemon runs."""
    client = machine.program("docker")
    printed = machine.output(client, "info", "--format", "{{json .}}") if client else None
    try:
        info = json_parser.loads(printed or "{}")
    except (ValueError, RecursionError):
        return {}
    # Podman's own `docker` prints another form.
    return info if isinstance(info, dict) and info.get("ServerVersion") else {}


def _status(
    machine: Machine, program: str | None, info: dict[str, Any], *, rootless: bool
) -> EngineStatus:
    docker = facts.docker()
    path = daemon_json.default_path(machine, rootless=rootless)
    findings = []
    members: dict[str, Any] = {}
    try:
        members = daemon_json.parsed(machine.text(path))
    except CdiGenError as error:
        findings.append(unreadable(error, path))
    version = printed_version(str(info.get("ServerVersion", ""))) or machine.version(program)
    cdi = cdi_state(
        version,
        configured=daemon_json.table(members, "features").get("cdi"),
        by_default_since=docker.cdi_by_default_since,
    )
    directories, source = _directories(machine, members, path, version, rootless=rootless)
    if info.get("CDISpecDirs") is not None:
        directories, source = info["CDISpecDirs"], "docker info"
        cdi = _state_of(directories)
    runtimes = daemon_json.table(members, "runtimes") | daemon_json.table(info, "Runtimes")
    findings.append(_gpus_finding(machine, version))
    return engine_status(
        NAME,
        program=program,
        version=version,
        rootless=rootless,
        cdi_since=docker.cdi_since,
        cdi=cdi,
        spec_directories=directories,
        source=source,
        runtimes=(
            (name, str(entry.get("path") or entry.get("runtimeType") or ""))
            for name, entry in runtimes.items()
            if isinstance(entry, dict)
        ),
        findings=findings,
        default_runtime=info.get("DefaultRuntime") or members.get("default-runtime"),
    )


def _state_of(directories: object) -> CdiState:
    """A daemon with CDI switched off has no spec directories."""
    return "on" if directories else "off"


def _directories(
    machine: Machine, members: dict[str, Any], path: str, version: str | None, *, rootless: bool
) -> tuple[Iterable[object], str]:
    """The spec directories, and where they are configured."""
    configured = members.get("cdi-spec-dirs")
    if isinstance(configured, list):
        return configured, path
    since = facts.docker().user_spec_directories_since
    if rootless and at_least(version, since, unknown=False):
        return daemon_json.user_directories(machine), "default"
    return SPEC_DIRECTORIES, "default"


def _gpus_finding(machine: Machine, version: str | None) -> Finding:
    """How ``docker run --gpus`` works: it depends on the programs in dockerd's PATH."""
    docker = facts.docker()
    by_cdi = at_least(version, docker.gpus_by_cdi_since, unknown=True)
    names = [docker.gpus_by_cdi_program] if by_cdi else []
    for name in (*names, docker.gpus_by_hook_program):
        program = machine.find_program(name, USUAL_DIRECTORIES)
        if program:
            message = f"docker run --gpus: dockerd finds {program}"
            return Finding("CDG-E108", "info", message, subject=NAME)
    if by_cdi:
        message = (
            f"docker run --gpus: dockerd does not find {docker.gpus_by_cdi_program}; perhaps it "
            "takes the devices from the specs alone"
        )
    else:
        message = (
            f"docker run --gpus does not work: dockerd does not find {docker.gpus_by_hook_program}"
        )
    return Finding("CDG-E108", "info", message, subject=NAME)
