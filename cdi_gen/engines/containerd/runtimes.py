# SPDX-License-Identifier: Apache-2.0
"""The runtimes in the CRI plugin's section of containerd's configuration, and ours among them.

containerd ignores upper and lower case in the names of keys, and of two keys that differ only in
case it takes one. So ``binaryName``, as Kubespray writes it, is replaced; adding ``BinaryName``
beside it would not be enough.
"""

from __future__ import annotations

from typing import Any

from cdi_base.versions import at_least
from cdi_gen.engines import facts, low_level_runtime
from cdi_gen.engines.containerd.imports import spelled, value_at
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Runtime
from cdi_gen.engines.runtimes import derive_runtime
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_settings import Settings
from cdi_gen.engines.text.toml_text import Table

RUNTIMES = ("containerd", "runtimes")
DEFAULT = ("containerd", "default_runtime_name")
ENABLE_CDI = ("enable_cdi",)
CDI_DIRECTORIES = ("cdi_spec_dirs",)


def plugin_settings(
    section: Table,
    *,
    cdi: bool,
    runtime: Runtime | None,
    file_version: int,
    containerd: str | None = None,
    merged_with: Table | None = None,
) -> Settings:
    """The keys to set in the section of the CRI plugin.

    Args:
        section: the section as it is.
        cdi: whether to enable CDI.
        runtime: the runtime to register.
        file_version: the version of the configuration file.
        containerd: the version of containerd; for an unknown one, settings that only an old one
            needs are made too.
        merged_with: the section of other files, with which containerd merges these keys.
    """
    settings: list[tuple[Path, Any]] = []
    if cdi:
        settings.append((spelled(section, ENABLE_CDI), True))
    if runtime:
        containerd_facts = facts.containerd()
        runtimes = spelled(section, RUNTIMES)
        is_first = not value_at(section, RUNTIMES)
        has_built_in = not at_least(containerd, containerd_facts.built_in_runc_until, unknown=False)
        if is_first and file_version < 3 and has_built_in:
            # The first runtime in the file replaces the built-in one, so we write that too.
            settings.append(((*runtimes, "runc"), {"runtime_type": containerd_facts.runc_shim}))
        entry = runtime_entry(section, runtime, file_version)
        entry_below = (value_at(merged_with or {}, RUNTIMES) or {}).get(runtime.name)
        if isinstance(entry_below, dict):
            entry = _spelled_like(entry_below, entry)
        settings.append(((*runtimes, runtime.name), entry))
        if runtime.default:
            settings.append((spelled(section, DEFAULT), runtime.name))
    return settings


def runtime_entry(section: Table, runtime: Runtime, file_version: int) -> Table:
    """The entry of a runtime: that of the default runtime in this section, except the program."""
    runc_shim = facts.containerd().runc_shim
    default = value_at(section, DEFAULT)
    runtimes = value_at(section, RUNTIMES) or {}
    model = next((runtimes[name] for name in (default, "runc", "crun") if name in runtimes), None)
    if isinstance(model, dict):
        entry = derive_runtime(model)
    elif file_version < 3:
        entry = {
            "runtime_type": runc_shim,
            "runtime_root": "",
            "runtime_engine": "",
            "privileged_without_host_devices": False,
        }
    else:
        entry = {}
    if not value_at(entry, ("runtime_type",)):
        _set(entry, "runtime_type", runc_shim)  # without it, the runtime cannot be started
    options = dict(value_at(entry, ("options",)) or {})
    _set(options, "BinaryName", runtime.path)
    if file_version == 1:
        _set(options, "Runtime", runtime.path)
    _set(entry, "options", options)
    return entry


def _set(table: Table, name: str, value: Any) -> None:
    """Set a key, and remove those that differ from it only in case."""
    for key in [key for key in table if key.lower() == name.lower() and key != name]:
        del table[key]
    table[name] = value


def _spelled_like(below: Table, entry: Table) -> Table:
    """An entry spelled as the keys that it is merged with, since it cannot remove those."""
    result: Table = {}
    for name, value in entry.items():
        keys = [key for key in below if key.lower() == name.lower()] or [name]
        for key in keys:
            both = isinstance(value, dict) and isinstance(below.get(key), dict)
            result[key] = _spelled_like(below[key], value) if both else value
    return result


def low_level_program(section: Table, containerd: str | None, machine: Machine) -> str | None:
    """The program of the default runtime; None if it does not have runc's command line."""
    containerd_facts = facts.containerd()
    runtimes = value_at(section, RUNTIMES) or {}
    default = str(value_at(section, DEFAULT) or "runc")
    for name in dict.fromkeys((default, "runc", "crun")):
        entry = runtimes.get(name)
        if not isinstance(entry, dict):
            if name == default == "runc":
                return low_level_runtime.program_of("runc", machine)
            continue
        shim = str(value_at(entry, ("runtime_type",)) or containerd_facts.runc_shim)
        if shim == containerd_facts.linux_shim:
            binary = value_at(entry, ("options", "Runtime")) or value_at(entry, ("runtime_engine",))
        elif shim.startswith("io.containerd.runc."):
            binary = binary_name(entry, containerd)
        else:
            continue
        program = low_level_runtime.program_of(str(binary or "runc"), machine)
        if program:
            return program
    return None


def binary_name(entry: Table, containerd: str | None = None) -> str:
    """The program of a runtime.

    Of two spellings of the key, containerd 1 takes the documented one, and a later or an unknown
    version the last.
    """
    options = value_at(entry, ("options",)) or {}
    keys = sorted(key for key in options if key.lower() == "binaryname")
    if not keys:
        return ""
    takes_last = at_least(containerd, facts.containerd().exact_key_first_until, unknown=True)
    if "BinaryName" in keys and not takes_last:
        return str(options["BinaryName"])
    return str(options[keys[-1]])
