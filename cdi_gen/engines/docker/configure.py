# SPDX-License-Identifier: Apache-2.0
"""The changes of ``daemon.json`` that enable CDI devices in Docker, and register a runtime."""

from __future__ import annotations

import json
from collections.abc import Callable

from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import facts, low_level_runtime, spec_directories
from cdi_gen.engines.change.record import Record
from cdi_gen.engines.docker import daemon_json
from cdi_gen.engines.docker.daemon_options import KEYS, reject_keys_set_by_options
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change, Plan, Request, reject_options
from cdi_gen.engines.runtimes import keep_default_runtime
from cdi_gen.engines.status import cdi_findings
from cdi_gen.engines.text import json_parser, json_text
from cdi_gen.engines.text.syntax import Path

NAME = "docker"


def plan(request: Request, machine: Machine) -> Plan:
    """The changes for Docker; see `cdi_gen.engines.Engine`."""
    reject_options(NAME, request, "--drop-in", "--executable-path", "--oci-hook")
    docker = facts.docker()
    default_path = daemon_json.default_path(machine, rootless=request.rootless)
    path = request.configuration or default_path
    text = machine.text(path)
    version = machine.version(machine.program("dockerd"))
    has_cdi = at_least(version, docker.cdi_since, unknown=True)
    cdi_by_default = at_least(version, docker.cdi_by_default_since, unknown=False)
    cdi = request.cdi and has_cdi
    findings: list[Finding] = []
    if request.cdi:
        findings += cdi_findings(
            NAME,
            f"docker {version}" if has_cdi else NAME,
            version,
            since=docker.cdi_since,
            by_default=cdi_by_default,
            fix=f"for docker run --gpus install {docker.gpus_by_hook_program}, for "
            "--runtime=nvidia give --runtime",
        )
    if cdi:
        findings += _directory_warnings(text, path)
    directories = _directories_to_set(request, machine, version) if cdi else ()

    low_level = _low_level_runtime(text, machine)
    start = low_level_runtime.with_launcher(NAME, default_path, request, low_level, machine)
    runtime = start.request.runtime

    def edit(text: str | None) -> str | None:
        configured = daemon_json.table(daemon_json.parsed(text), "features").get("cdi")
        is_on = cdi_by_default and configured is not False
        return daemon_json.edited(
            text, cdi=cdi and not is_on, directories=directories, runtime=runtime
        )

    if path == docker.configuration and not request.revert:
        reject_keys_set_by_options(machine, _changed_keys(text, edit))
    keys: list[Path] = [daemon_json.CDI, daemon_json.DIRECTORIES]
    if runtime:
        keys += [(*daemon_json.RUNTIMES, runtime.name), daemon_json.DEFAULT]
    keep = keep_default_runtime(json_text.JSON, daemon_json.RUNTIMES, daemon_json.DEFAULT)
    change = Change(path, edit, json_text.JSON, tuple(keys), keep)
    return Plan(
        (*start.changes, change),
        (*findings, *start.findings),
        docker.user_restart if request.rootless else docker.restart,
        low_level=low_level,
    )


def _changed_keys(text: str | None, edit: Callable[[str | None], str | None]) -> set[Path]:
    """The keys that an edit sets; none if the file cannot be read, which the edit reports."""
    try:
        new_text = edit(text)
    except json_parser.JSONTextError:
        return set()
    step = Record().with_step(json_text.JSON, text, new_text, [*KEYS.values()]).steps[0]
    return {value.path for value in step.values}


def _low_level_runtime(text: str | None, machine: Machine) -> str | None:
    """The program of the default runtime; of ours, the one that its launcher names."""
    try:
        members = daemon_json.parsed(text)
    except json_parser.JSONTextError:
        return None  # reported when the file is edited
    name = str(members.get("default-runtime") or "runc")
    entry = daemon_json.table(daemon_json.table(members, "runtimes"), name)
    options = {key.lower(): value for key, value in daemon_json.table(entry, "options").items()}
    runc_shim = facts.docker().runc_shim
    if str(entry.get("runtimeType") or runc_shim) != runc_shim:
        return None  # a shim of containerd, not a program with runc's command line
    program = str(entry.get("path") or options.get("binaryname") or name)
    return low_level_runtime.program_of(program, machine)


def _directory_warnings(text: str | None, path: str) -> list[Finding]:
    """Warn if the file makes Docker read none of the default directories."""
    directories = daemon_json.parsed_or_empty(text).get("cdi-spec-dirs")
    if directories is None or (
        isinstance(directories, list) and spec_directories.includes_a_default(directories)
    ):
        return []
    paths = json.dumps(directories)
    return [spec_directories.no_default_is_read(NAME, "cdi-spec-dirs", paths, path)]


def _directories_to_set(request: Request, machine: Machine, version: str | None) -> tuple[str, ...]:
    """The directories of a user's daemon, unless it reads them by default."""
    since = facts.docker().user_spec_directories_since
    if not request.rootless or at_least(version, since, unknown=False):
        return ()
    return daemon_json.user_directories(machine)
