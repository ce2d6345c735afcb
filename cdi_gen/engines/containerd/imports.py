# SPDX-License-Identifier: Apache-2.0
"""The files that containerd's configuration imports, and the merged content of these files."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import has_magic
from typing import Any

from cdi_gen.engines.change.record import Value
from cdi_gen.engines.change.reversal import Keep
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_text import Table, get
from cdi_gen.paths import join, parent


def with_import(
    text: str | None, drop_in: str, *, directory: str, file_version: int, alone: bool = True
) -> str:
    """The main file, importing a drop-in; a new file gets its version too.

    Args:
        text: of the main file; None if it does not exist.
        drop_in: the path of the drop-in.
        directory: of the main file.
        file_version: of a new main file.
        alone: whether the directory of the drop-in holds no other file, so that all of it can be
            imported, as is usual. If it holds other files, only ours is imported, so that
            containerd does not start to read files that it ignored.
    """
    pattern = import_patterns(drop_in)[0 if alone else 1]
    if text is None or not text.strip():
        start = "" if text is None else text
        return f"{start}version = {file_version}\nimports = [{toml_text.quoted(pattern)}]\n"
    table = toml_text.parse(text)
    (key,) = spelled(table, ("imports",))
    imports = table.get(key)
    for entry in map(str, imports if isinstance(imports, list) else []):
        # containerd 1.6 resolves a relative pattern from its working directory.
        is_certain = entry.startswith("/") or not has_magic(entry)
        if is_certain and import_matches(entry, drop_in, directory):
            return text
    return toml_text.with_item(text, (key,), pattern)


def import_matches(pattern: str, path: str, directory: str) -> bool:
    """Whether an entry of ``imports`` in a file of ``directory`` matches a path."""
    pattern = os.path.normpath(os.path.join(directory, pattern))
    return parent(pattern) == parent(path) and fnmatchcase(
        os.path.basename(path), os.path.basename(pattern)
    )


def keep_import(drop_in: str, *, alone: bool) -> Keep:
    """Keep the import of a whole directory if it holds other files by now."""
    directory_pattern = import_patterns(drop_in)[0]

    def keep(value: Value, _text: str | None) -> str | None:
        if alone or value.path[-1].lower() != "imports" or directory_pattern not in value.now:
            return None
        return f"the import of {directory_pattern} is kept: that directory holds other files"

    return keep


def import_patterns(drop_in: str) -> tuple[str, str]:
    """The pattern of all files in the drop-in's directory, and that of the drop-in alone.

    Both are patterns: containerd does not start if a file that is imported by name is missing.
    """
    return join(parent(drop_in), "*.toml"), f"{drop_in.removesuffix('.toml')}*.toml"


def imported_files(path: str, text: str | None, machine: Machine) -> dict[str, str]:
    """The texts of the files that a configuration imports, then of those that these import."""
    files: dict[str, str] = {}
    waiting = [(path, text)]
    while waiting:
        name, content = waiting.pop(0)
        if content is None:
            continue
        for entry in value_at(toml_text.parse(content, name), ("imports",)) or []:
            pattern = os.path.normpath(os.path.join(parent(name), str(entry)))
            matches = [pattern]
            if has_magic(pattern):
                matches = [
                    file
                    for file in machine.files(parent(pattern))
                    if import_matches(pattern, file, "/")
                ]
            for file in matches:
                imported = None if file == path or file in files else machine.text(file)
                if imported is not None:
                    files[file] = imported
                    waiting.append((file, imported))
    return files


def plugin_section(texts: list[str], plugin: str, *, merges: bool) -> Table:
    """The section of a plugin in several files.

    A later file is merged with the earlier ones, or its section replaces theirs.
    """
    section: Table = {}
    for text in texts:
        table = get(toml_text.parse(text), ("plugins", plugin))
        if isinstance(table, dict):
            section = merged(section, table) if merges else table
    return section


def spelled(table: Table, path: Path) -> Path:
    """A path with the spelling of a table's keys: containerd ignores upper and lower case."""
    names = []
    for name in path:
        alike = [key for key in table if key.lower() == name.lower()] if table else []
        names.append(name if name in alike or not alike else alike[0])
        below = table.get(names[-1])
        table = below if isinstance(below, dict) else {}
    return tuple(names)


def value_at(table: Table, path: Path) -> Any:
    """The value at a path, whatever the case of its keys; None if there is none."""
    return get(table, spelled(table, path))


def merged(below: Table, above: Table) -> Table:
    """Two tables in one; the second's values replace the first's, unless both are tables."""
    both = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            both[name] = merged(below[name], above[name])
    return both
