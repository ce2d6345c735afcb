# SPDX-License-Identifier: Apache-2.0
"""Our settings in a file of containerd: in a drop-in that the main file imports, or in that file.

Before containerd 2.1, a drop-in replaces the whole table of a plugin (containerd#5837). Our drop-in
then repeats the table of the other files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cdi_gen.engines.change.record import Value
from cdi_gen.engines.containerd.imports import keep_import, merged, spelled, value_at, with_import
from cdi_gen.engines.containerd.runtimes import DEFAULT, ENABLE_CDI, RUNTIMES
from cdi_gen.engines.containerd.versions import plugin_of
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change
from cdi_gen.engines.runtimes import keep_default_runtime
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_settings import HEADER, Settings, with_settings
from cdi_gen.engines.text.toml_text import Table, get
from cdi_gen.paths import parent

CARRIED = "# Before containerd 2.1 this file replaces the plugin's table of other files.\n"

SettingsFor = Callable[[Table, "Table | None"], Settings]
"""Returns the settings to make in a section of the CRI plugin; the second is the section of other
files that containerd merges with it, if it does."""


def main_file_change(path: str, section: Table, settings: Settings, file_version: int) -> Change:
    """The change that puts settings into the main file itself."""
    plugin = ("plugins", plugin_of(file_version))
    placed = [((*plugin, *key), value) for key, value in settings]

    def edit(text: str | None) -> str | None:
        needs_version = text is None and file_version > 1 and placed
        return with_settings(
            text, [(("version",), file_version), *placed] if needs_version else placed
        )

    keep = keep_default_runtime(
        toml_text.TOML,
        (*plugin, *spelled(section, RUNTIMES)),
        (*plugin, *spelled(section, DEFAULT)),
    )
    return Change(path, edit, toml_text.TOML, _keys(plugin, settings, section), keep)


def drop_in_changes(
    path: str,
    drop_in: str,
    section: Table,
    settings_for: SettingsFor,
    machine: Machine,
    file_version: int,
    *,
    carry: bool,
) -> tuple[Change, Change]:
    """The changes that put settings into a drop-in, and have the main file import it.

    Args:
        path: of the main file.
        drop_in: the path of the drop-in.
        section: the section of the CRI plugin in all other files.
        settings_for: the settings to make.
        machine: the machine.
        file_version: the version of the configuration.
        carry: whether the drop-in replaces the section of other files.
    """
    plugin = ("plugins", plugin_of(file_version))
    other_files = [file for file in machine.files(parent(drop_in), ".toml") if file != drop_in]
    is_ours = machine.is_ours(drop_in)
    merged_with = None if carry else section

    def edit_drop_in(text: str | None) -> str | None:
        current = section
        if text is not None and not is_ours:
            current = merged(section, get(toml_text.parse(text), plugin) or {})
        return drop_in_text(
            text,
            section,
            settings_for(current, merged_with),
            file_version=file_version,
            carry=carry,
            is_ours=is_ours,
        )

    def edit_main_file(text: str | None) -> str | None:
        if not settings_for(section, merged_with):
            return text
        return with_import(
            text,
            drop_in,
            directory=parent(path),
            file_version=file_version,
            alone=not other_files,
        )

    runtimes = (*plugin, *spelled(section, RUNTIMES))
    default = (*plugin, *spelled(section, DEFAULT))
    default_runtime = value_at(section, DEFAULT)
    is_defined = default_runtime in (value_at(section, RUNTIMES) or {})
    keep_runtime = keep_default_runtime(
        toml_text.TOML, runtimes, default, None if is_defined else default_runtime
    )
    keep_runtime_of_main_file = keep_default_runtime(toml_text.TOML, runtimes, default)
    keep_import_of_others = keep_import(drop_in, alone=not other_files)

    def keep_in_main_file(value: Value, text: str | None) -> str | None:
        return keep_runtime_of_main_file(value, text) or keep_import_of_others(value, text)

    keys = _keys(plugin, settings_for(section, merged_with), section)
    imports = spelled(toml_text.parse(machine.text(path)), ("imports",))
    return (
        Change(drop_in, edit_drop_in, toml_text.TOML, keys, keep_runtime),
        Change(path, edit_main_file, toml_text.TOML, (imports, ("version",)), keep_in_main_file),
    )


def drop_in_text(
    text: str | None,
    section: Table,
    settings: Settings,
    *,
    file_version: int,
    carry: bool,
    is_ours: bool = True,
) -> str | None:
    """The drop-in with our settings.

    A drop-in that does not exist or is ours is written as a whole: with the section of the plugin
    if it must carry that, and with the settings of ours that it had. In a drop-in of another
    author only our keys are changed.

    Args:
        text: of the drop-in; None if it does not exist.
        section: the section of the CRI plugin in all other files.
        settings: the settings to make in that section.
        file_version: of the configuration.
        carry: whether a drop-in replaces the section of other files.
        is_ours: whether the drop-in is ours as a whole.
    """
    plugin = ("plugins", plugin_of(file_version))
    if text is not None and not is_ours:
        return with_settings(text, [((*plugin, *path), value) for path, value in settings])
    earlier = [*_own_settings(get(toml_text.parse(text), plugin) or {}, section)] if text else []
    all_settings = dict([*earlier, *settings])
    if not all_settings:
        return text
    plugin_table = toml_text.parse(toml_text.render(section)) if carry else {}
    for path, value in all_settings.items():
        table = plugin_table
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    document: Table = {"version": file_version, "plugins": {plugin[1]: plugin_table}}
    return HEADER + (CARRIED if carry else "") + toml_text.render(document)


def _own_settings(drop_in: Table, section: Table) -> Iterator[tuple[Path, Any]]:
    """The settings that our drop-in made: all that the section of other files does not have."""
    if value_at(drop_in, ENABLE_CDI) is True:
        yield spelled(section, ENABLE_CDI), True
    others = value_at(section, RUNTIMES) or {}
    runtimes = value_at(drop_in, RUNTIMES) or {}
    own = {name: entry for name, entry in runtimes.items() if name not in others}
    for name, entry in own.items():
        yield (*spelled(section, RUNTIMES), name), entry
    default = value_at(drop_in, DEFAULT)
    if default in own:
        yield spelled(section, DEFAULT), default


def _keys(plugin: Path, settings: Settings, section: Table) -> tuple[Path, ...]:
    """Where settings may be made: the version, CDI, the runtimes and the default."""
    runtimes = spelled(section, RUNTIMES)
    names = [path[-1] for path, _ in settings if path[-2:-1] == (RUNTIMES[-1],)]
    keys = (
        spelled(section, ENABLE_CDI),
        *((*runtimes, name) for name in names),
        spelled(section, DEFAULT),
    )
    return (("version",), *((*plugin, *key) for key in keys))
