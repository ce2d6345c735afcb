# SPDX-License-Identifier: Apache-2.0
"""The containerd that is installed, by what it says itself or else by its files."""

from __future__ import annotations

from cdi_gen.engines import version
from cdi_gen.engines.containerd.imports import imported, said_at, section
from cdi_gen.engines.containerd.runtimes import CDI_DIRECTORIES, ENABLE_CDI, RUNTIMES, binary_name
from cdi_gen.engines.containerd.versions import (
    FILE,
    FIRST_THAT_MERGES,
    FIRST_WITH_CDI,
    NAME,
    ON_BY_DEFAULT,
    file_version,
    plugin_of,
)
from cdi_gen.engines.known import newest_cdi_version
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import SPEC_DIRECTORIES, Finding
from cdi_gen.engines.runtimes import is_nvidia
from cdi_gen.engines.text.toml_text import Table, TOMLTextError
from cdi_gen.errors import CdiGenError


def findings(machine: Machine) -> list[Finding]:
    """The containerd that is installed, as it is or as its files have it be."""
    program = machine.program(NAME)
    if not program:
        return []
    found = machine.version(program)
    notes: list[str] = []
    source, said = "containerd config dump", _dumped(machine, program) if found else None
    if said is None:
        try:
            source, said = _from_files(machine, found)
        except CdiGenError as error:
            source, said = FILE, {}
            notes.append(error.message)
    if not said and not notes:
        source = "default"
    enabled = said_at(said, ENABLE_CDI)
    if version.before(found, FIRST_WITH_CDI):
        cdi = "no"
    elif isinstance(enabled, bool):
        cdi = "on" if enabled else "off"
    else:
        by_default = version.before(found, ON_BY_DEFAULT)
        cdi = "unknown" if by_default is None else "off" if by_default else "on"
    directories = said_at(said, CDI_DIRECTORIES)
    if not isinstance(directories, list):
        directories = [*SPEC_DIRECTORIES]
    runtimes = said_at(said, RUNTIMES) or {}
    programs = [
        (name, binary_name(entry, found))
        for name, entry in runtimes.items()
        if isinstance(entry, dict)
    ]
    return [
        Finding(
            engine=NAME,
            program=program,
            version=found,
            rootless=False,
            cdi=cdi,
            newest_cdi_version=newest_cdi_version(NAME, found),
            spec_directories=tuple(map(str, directories)) if cdi != "no" else (),
            source=source,
            runtimes=tuple(each for each in programs if is_nvidia(*each)),
            notes=tuple(notes),
        )
    ]


def _dumped(machine: Machine, program: str) -> Table | None:
    """What containerd says that it would do, its drop-ins and defaults included."""
    printed = machine.output(program, "config", "dump")
    if not printed:
        return None
    try:
        plugin = plugin_of(file_version(printed, None))
        return section([printed], plugin, merges=True)
    except TOMLTextError:
        return None


def _from_files(machine: Machine, found: str | None) -> tuple[str, Table]:
    text = machine.text(FILE)
    plugin = plugin_of(file_version(text, found, FILE))
    texts = {FILE: text or "", **imported(FILE, text, machine)}
    merges = version.before(found, FIRST_THAT_MERGES) is False
    said = section([*texts.values()], plugin, merges=merges)
    return ", ".join(name for name, each in texts.items() if each), said
