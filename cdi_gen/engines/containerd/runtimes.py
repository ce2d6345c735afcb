# SPDX-License-Identifier: Apache-2.0
"""The runtimes in the CRI plugin's section of a configuration of containerd, and ours among them.

containerd reads the names of keys in upper and lower case alike, and of two that differ in that
alone it takes one: ``binaryName``, as Kubespray writes it, must become ours and not get a sister.
"""

from __future__ import annotations

from typing import Any

from cdi_gen.engines import low_level, version
from cdi_gen.engines.containerd.imports import said_at, spelled
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Runtime
from cdi_gen.engines.runtimes import like
from cdi_gen.engines.settings import Settings
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_text import Table

RUNC = "io.containerd.runc.v2"
LINUX = "io.containerd.runtime.v1.linux"
"""Before containerd 1.4; its options are others than runc's."""
RUNTIMES = ("containerd", "runtimes")
DEFAULT = ("containerd", "default_runtime_name")
ENABLE_CDI = ("enable_cdi",)
CDI_DIRECTORIES = ("cdi_spec_dirs",)

BUILT_IN = {"runtime_type": RUNC}
"""containerd 1 has a runtime runc, the default, as long as its configuration names none."""


def settings(
    section: Table,
    *,
    cdi: bool,
    runtime: Runtime | None,
    file_version: int,
    containerd: str | None = None,
    below: Table | None = None,
) -> Settings:
    """The keys below the CRI plugin that are to be set.

    Args:
        section: what is said of the plugin.
        cdi: whether it is to take CDI devices.
        runtime: what is to be registered.
        file_version: of the configuration.
        containerd: its version.
        below: what other files say that these keys are merged with.
    """
    found: list[tuple[Path, Any]] = []
    if cdi:
        found.append((spelled(section, ENABLE_CDI), True))
    if runtime:
        runtimes = spelled(section, RUNTIMES)
        first = not said_at(section, RUNTIMES)
        if first and file_version < 3 and version.before(containerd, (2, 0)) is not False:
            found.append(((*runtimes, "runc"), {**BUILT_IN}))
        entry = runtime_entry(section, runtime, file_version)
        there = (said_at(below or {}, RUNTIMES) or {}).get(runtime.name)
        if isinstance(there, dict):
            entry = _spelled_as(there, entry)
        found.append(((*runtimes, runtime.name), entry))
        if runtime.default:
            found.append((spelled(section, DEFAULT), runtime.name))
    return found


def runtime_entry(section: Table, runtime: Runtime, file_version: int) -> Table:
    """The entry of a runtime: as the default one's in this section, but for the program."""
    default = said_at(section, DEFAULT)
    runtimes = said_at(section, RUNTIMES) or {}
    model = next((runtimes[name] for name in (default, "runc", "crun") if name in runtimes), None)
    if isinstance(model, dict):
        entry = like(model)
    elif file_version < 3:
        entry = {
            "runtime_type": RUNC,
            "runtime_root": "",
            "runtime_engine": "",
            "privileged_without_host_devices": False,
        }
    else:
        entry = {}
    if not said_at(entry, ("runtime_type",)):
        _set(entry, "runtime_type", RUNC)  # absent, the runtime cannot be started
    options = dict(said_at(entry, ("options",)) or {})
    _set(options, "BinaryName", runtime.path)
    if file_version == 1:
        _set(options, "Runtime", runtime.path)
    _set(entry, "options", options)
    return entry


def _set(table: Table, name: str, value: Any) -> None:
    """Set a key, in the place of all that are spelled otherwise."""
    for key in [key for key in table if key.lower() == name.lower() and key != name]:
        del table[key]
    table[name] = value


def _spelled_as(there: Table, entry: Table) -> Table:
    """An entry with its keys as they are spelled where it is merged into; there they cannot go."""
    made: Table = {}
    for name, value in entry.items():
        alike = [key for key in there if key.lower() == name.lower()] or [name]
        for key in alike:
            both = isinstance(value, dict) and isinstance(there.get(key), dict)
            made[key] = _spelled_as(there[key], value) if both else value
    return made


def low_level_runtime(section: Table, containerd: str | None, machine: Machine) -> str | None:
    """What the default runtime runs; None where that is no program with runc's command line."""
    runtimes = said_at(section, RUNTIMES) or {}
    default = str(said_at(section, DEFAULT) or "runc")
    for name in dict.fromkeys((default, "runc", "crun")):
        entry = runtimes.get(name)
        if not isinstance(entry, dict):
            if name == default == "runc":
                return low_level.of("runc", machine)
            continue
        kind = str(said_at(entry, ("runtime_type",)) or RUNC)
        if kind == LINUX:
            named = said_at(entry, ("options", "Runtime")) or said_at(entry, ("runtime_engine",))
        elif kind.startswith("io.containerd.runc."):
            named = binary_name(entry, containerd)
        else:
            continue
        program = low_level.of(str(named or "runc"), machine)
        if program:
            return program
    return None


def binary_name(entry: Table, containerd: str | None = None) -> str:
    """The program of a runtime. Of two spellings containerd 2 takes the last, 1 ours."""
    options = said_at(entry, ("options",)) or {}
    names = sorted(key for key in options if key.lower() == "binaryname")
    one = version.before(containerd, (2, 0)) and "BinaryName" in names
    return str(options["BinaryName"] if one else options[names[-1]]) if names else ""
