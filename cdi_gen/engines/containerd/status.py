# SPDX-License-Identifier: Apache-2.0
"""The status of containerd, from ``containerd config dump`` or else from its files."""

from __future__ import annotations

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import facts
from cdi_gen.engines.containerd.configure import NAME
from cdi_gen.engines.containerd.imports import imported_files, plugin_section, value_at
from cdi_gen.engines.containerd.runtimes import (
    CDI_DIRECTORIES,
    DEFAULT,
    ENABLE_CDI,
    RUNTIMES,
    binary_name,
)
from cdi_gen.engines.containerd.versions import file_version, plugin_of
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.status import EngineStatus, cdi_state, engine_status, unreadable
from cdi_gen.engines.text.toml_text import Table, TOMLTextError
from cdi_gen.errors import CdiGenError


def statuses(machine: Machine) -> list[EngineStatus]:
    """The status of the containerd in PATH."""
    containerd = facts.containerd()
    program = machine.program(NAME)
    if not program:
        return []
    version = machine.version(program)
    findings: list[Finding] = []
    source = "containerd config dump"
    section = _dumped_section(machine, program) if version else None
    if section is None:
        try:
            source, section = _section_from_files(machine, version)
        except CdiGenError as error:
            source, section = containerd.configuration, {}
            findings.append(unreadable(error, source))
    if not section and not findings:
        source = "default"
    directories = value_at(section, CDI_DIRECTORIES)
    runtimes = value_at(section, RUNTIMES) or {}
    return [
        engine_status(
            NAME,
            program=program,
            version=version,
            cdi_since=containerd.cdi_since,
            cdi=cdi_state(
                version,
                configured=value_at(section, ENABLE_CDI),
                by_default_since=containerd.cdi_by_default_since,
            ),
            spec_directories=(directories if isinstance(directories, list) else SPEC_DIRECTORIES),
            source=source,
            runtimes=(
                (name, binary_name(entry, version))
                for name, entry in runtimes.items()
                if isinstance(entry, dict)
            ),
            findings=findings,
            default_runtime=value_at(section, DEFAULT),
        )
    ]


def _dumped_section(machine: Machine, program: str) -> Table | None:
    """The section of the CRI plugin that containerd prints, with drop-ins and defaults."""
    printed = machine.output(program, "config", "dump")
    if not printed:
        return None
    try:
        plugin = plugin_of(file_version(printed, None))
        return plugin_section([printed], plugin, merges=True)
    except TOMLTextError:
        return None


def _section_from_files(machine: Machine, version: str | None) -> tuple[str, Table]:
    """The files that have a text, and the section of the CRI plugin in them."""
    containerd = facts.containerd()
    path = containerd.configuration
    text = machine.text(path)
    plugin = plugin_of(file_version(text, version, path))
    texts = {path: text or "", **imported_files(path, text, machine)}
    merges = at_least(version, containerd.merged_drop_ins_since, unknown=False)
    section = plugin_section([*texts.values()], plugin, merges=merges)
    return ", ".join(name for name, text in texts.items() if text), section
