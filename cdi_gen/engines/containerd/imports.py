# SPDX-License-Identifier: Apache-2.0
"""The files that a configuration of containerd imports, and what all of them say together."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import has_magic
from typing import Any

from cdi_gen.engines.change.record import Value
from cdi_gen.engines.change.reversal import Stays
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_text import Table, get
from cdi_gen.paths import join, parent


def with_import(
    text: str | None, drop_in: str, *, directory: str, file_version: int, alone: bool = True
) -> str:
    """The main file, importing a drop-in; a new one says its version too.

    Args:
        text: what is in it; None if there is no such file.
        drop_in: the path of the drop-in.
        directory: of the main file.
        file_version: of a new main file.
        alone: whether nothing else is beside the drop-in, so that all there may be imported, as
            is usual; what others left there and nobody reads is not to be read because of us.
    """
    pattern = patterns(drop_in)[0 if alone else 1]
    if text is None or not text.strip():
        start = "" if text is None else text
        return f"{start}version = {file_version}\nimports = [{toml_text.quoted(pattern)}]\n"
    said = toml_text.parse(text)
    (key,) = spelled(said, ("imports",))
    imports = said.get(key)
    for each in imports if isinstance(imports, list) else []:
        # containerd 1.6 has a relative pattern count from its working directory.
        certain = str(each).startswith("/") or not has_magic(str(each))
        if certain and matches(str(each), drop_in, directory):
            return text
    return toml_text.with_item(text, (key,), pattern)


def matches(pattern: str, path: str, directory: str) -> bool:
    """Whether an entry of ``imports``, which counts from the file's directory, leads to a path."""
    pattern = os.path.normpath(os.path.join(directory, pattern))
    return parent(pattern) == parent(path) and fnmatchcase(
        os.path.basename(path), os.path.basename(pattern)
    )


def stays(drop_in: str, *, alone: bool) -> Stays:
    """What must stay: the import of a whole directory, if others have files there by now."""
    every = patterns(drop_in)[0]

    def needed(value: Value, _made: str | None) -> str | None:
        if alone or value.path[-1].lower() != "imports" or every not in value.now:
            return None
        return f"the import of {every} stays: there are other files in that directory"

    return needed


def patterns(drop_in: str) -> tuple[str, str]:
    """What is imported: all in the drop-in's directory, or it alone.

    Both patterns: a file that is named and not there keeps containerd from starting.
    """
    return join(parent(drop_in), "*.toml"), f"{drop_in.removesuffix('.toml')}*.toml"


def imported(path: str, text: str | None, machine: Machine) -> dict[str, str]:
    """The files that a configuration imports, and those that these do, in that order."""
    found: dict[str, str] = {}
    waiting = [(path, text)]
    while waiting:
        name, said = waiting.pop(0)
        if said is None:
            continue
        for each in said_at(toml_text.parse(said, name), ("imports",)) or []:
            where = os.path.normpath(os.path.join(parent(name), str(each)))
            names = [where]
            if has_magic(where):
                names = [one for one in machine.files(parent(where)) if matches(where, one, "/")]
            for one in names:
                content = None if one == path or one in found else machine.text(one)
                if content is not None:
                    found[one] = content
                    waiting.append((one, content))
    return found


def section(texts: list[str], plugin: str, *, merges: bool) -> Table:
    """What files, each later one over those before it, say of a plugin."""
    said: Table = {}
    for text in texts:
        table = get(toml_text.parse(text), ("plugins", plugin))
        if isinstance(table, dict):
            said = merged(said, table) if merges else table
    return said


def spelled(said: Table, path: Path) -> Path:
    """A path as a text has it: containerd reads the names of keys in upper and lower case alike."""
    found = []
    for name in path:
        alike = [key for key in said if key.lower() == name.lower()] if said else []
        found.append(name if name in alike or not alike else alike[0])
        below = said.get(found[-1])
        said = below if isinstance(below, dict) else {}
    return tuple(found)


def said_at(said: Table, path: Path) -> Any:
    """The value at a path, however its keys are spelled; None where there is none."""
    return get(said, spelled(said, path))


def merged(below: Table, above: Table) -> Table:
    """Two tables in one: where both say something, and it is no table, the second counts."""
    both = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            both[name] = merged(below[name], above[name])
    return both
