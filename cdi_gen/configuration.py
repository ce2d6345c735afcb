# SPDX-License-Identifier: Apache-2.0
"""Reads ``/etc/cdi-gen/config.toml``: the host's layout, and what ``cdi-gen refresh`` writes.

A command uses a setting if neither the command line nor the environment has the option.
``/etc/cdi-gen/config.d/*.toml`` are read after the file, ordered by name; the last value of a key
wins::

    [host]
    driver-root = "/run/nvidia/driver"
    library-search-path = ["/run/nvidia/driver/usr/lib64"]

    [refresh]
    modes = ["auto", "cap", "gds"]
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from cdi_base import CONFIGURATION, CONFIGURATION_DROP_INS, trust
from cdi_base.files import read as read_file
from cdi_gen.errors import CdiGenError, UnsafeError

PATH, DROP_INS = CONFIGURATION, CONFIGURATION_DROP_INS
MAX_BYTES = 1 << 18

HOST, REFRESH = "host", "refresh"


class Kind(NamedTuple):
    """The type of a key's value."""

    name: str
    """For messages: ``a path``, ``a list of paths``."""
    example: str
    is_list: bool = False
    is_path: bool = False
    is_switch: bool = False


_PATH = Kind("a path", '"/usr"', is_path=True)
_SWITCH = Kind("true or false", "true", is_switch=True)
_PATHS = Kind("a list of paths", '["/usr/lib64"]', is_list=True, is_path=True)

TABLES: dict[str, dict[str, Kind]] = {
    HOST: {
        "driver-root": _PATH,
        "dev-root": _PATH,
        "library-search-path": _PATHS,
        "config-search-path": _PATHS,
        "nvidia-cdi-hook-path": _PATH,
    },
    REFRESH: {
        "form": Kind("a text", '"files"'),
        "hooks": Kind("a text", '"auto"'),
        "modes": Kind("a list of texts", '["auto", "cap"]', is_list=True),
        "capabilities": Kind("a list of texts", '["compute", "utility"]', is_list=True),
        "output-directory": Kind("a path", '"/run/cdi"', is_path=True),
        "device-nodes": _SWITCH,
        "dev-char-symlinks": _SWITCH,
    },
}
"""The options of ``generate`` that describe a host, and the options of ``refresh``."""


Value = str | tuple[str, ...] | bool
"""A text or an absolute path, several of them, or a switch."""


class Setting(NamedTuple):
    """The value of a key."""

    value: Value
    source: str
    """File and line, as text: ``/etc/cdi-gen/config.toml, line 3``."""


Settings = dict[str, Setting]


def files(host_root: str = "/") -> list[str]:
    """Return the existing configuration files in rising priority, as paths below the host's root.

    Raises:
        CdiGenError: a directory cannot be read.
    """
    prefix = host_root.rstrip("/")
    try:
        directory, name = os.path.split(PATH)
        main_file = [PATH] if name in _names(directory, host_root) else []
        names = sorted(_names(DROP_INS, host_root))
    except OSError as error:
        path = (error.filename or DROP_INS).removeprefix(prefix)
        raise CdiGenError(
            f"cannot read {path}: {error.strerror}", code="CDG-C001", subject=path
        ) from error
    return main_file + [f"{DROP_INS}/{name}" for name in names if name.endswith(".toml")]


def _names(directory: str, host_root: str) -> list[str]:
    try:
        resolved = trust.resolved(directory, seen_from=host_root)
        return os.listdir(host_root.rstrip("/") + resolved)
    except FileNotFoundError:
        return []


def load(path: str | None = None, host_root: str = "/") -> dict[str, Settings]:
    """Return the settings by table and key; a table that no file has is empty.

    Args:
        path: a file that is read instead of the configuration files of the host; it must exist.
        host_root: the path at which the host's ``/`` is visible to this process.

    Raises:
        UnsafeError: this process runs as root, and another user could change a file.
        CdiGenError: a file cannot be read, is not TOML, or has an unknown key or a wrong value; the
            message has file and line.
    """
    settings: dict[str, Settings] = {table: {} for table in TABLES}
    for file in files(host_root) if path is None else [path]:
        for table, values in _settings(file, "/" if path is not None else host_root).items():
            settings[table] |= values
    return settings


def _settings(path: str, host_root: str) -> dict[str, Settings]:
    # Most hosts have no such file, so that the import is not needed there.
    from cdi_base import toml  # noqa: PLC0415

    content = _read(path, host_root)
    try:
        values, lines = toml.parse(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CdiGenError(
            f"{path}, line {line}: not UTF-8 text", code="CDG-C002", subject=path
        ) from error
    except toml.TomlError as error:
        raise CdiGenError(
            f"{path}, {error}",
            hint="the format is TOML: key = value",
            code="CDG-C002",
            subject=path,
        ) from error
    settings: dict[str, Settings] = {}
    for name, table in values.items():
        position = f"{path}, line {lines.get((name,), 1)}"
        if name not in TABLES:
            raise _unknown_table(name, position, is_table=isinstance(table, dict))
        if not isinstance(table, dict):
            raise CdiGenError(
                f"{position}: {name} must be a table",
                hint=f"write a line [{name}], and the keys below",
                code="CDG-C004",
                subject=position,
            )
        settings[name] = {}
        for key, value in table.items():
            position = f"{path}, line {lines.get((name, key)) or lines.get((name,), 1)}"
            settings[name][key] = Setting(_value(TABLES[name], key, value, position), position)
    return settings


def _unknown_table(name: str, position: str, *, is_table: bool) -> CdiGenError:
    owner = next((table for table, keys in TABLES.items() if name in keys), None)
    tables = " and ".join(f"[{table}]" for table in TABLES)
    return CdiGenError(
        f"{position}: unknown {'table' if is_table else 'key'} {name!a}",
        hint=f"write the key below a line [{owner}]" if owner else f"the tables are {tables}",
        code="CDG-C003",
        subject=position,
    )


def _value(keys: dict[str, Kind], key: str, value: object, position: str) -> Value:
    if key not in keys:
        from difflib import get_close_matches  # noqa: PLC0415

        matches = get_close_matches(key, keys, n=1)
        suggestion = f"; did you mean {matches[0]}?" if matches else ""
        raise CdiGenError(
            f"{position}: unknown key {key!a}{suggestion}",
            hint=f"the keys are {', '.join(keys)}",
            code="CDG-C003",
            subject=position,
        )
    kind = keys[key]
    if kind.is_switch and isinstance(value, bool):
        return value
    if not kind.is_switch and isinstance(value, list if kind.is_list else str):
        texts = value if isinstance(value, list) else [value]
        if all(isinstance(text, str) for text in texts):
            for text in texts:
                _check_text(key, text, position, is_path=kind.is_path)
            return tuple(texts) if kind.is_list else str(value)
    raise CdiGenError(
        f"{position}: {key} must be {kind.name}",
        hint=f"for example: {key} = {kind.example}",
        code="CDG-C004",
        subject=position,
    )


def _check_text(key: str, text: str, position: str, *, is_path: bool) -> None:
    if is_path and not (text.startswith("/") and text.isprintable()):
        raise CdiGenError(
            f"{position}: {key}: {text!a} is not an absolute path",
            code="CDG-C004",
            subject=position,
        )


def _read(path: str, host_root: str) -> bytes:
    absolute = os.path.abspath(path)
    try:
        if os.geteuid() == 0:
            reason = trust.fault(absolute, owners=trust.machine_root(), seen_from=host_root)
            if reason:
                raise UnsafeError(
                    f"{path} is not read: {reason}",
                    hint="the file decides which files root runs and gives to containers, so only "
                    "root may be able to change it: correct owner and mode (root:root 0644)",
                    code="CDG-C005",
                    subject=path,
                )
        # A symbolic link on the host leads to a file of the host, not to a file of this container.
        resolved = trust.resolved(absolute, seen_from=host_root)
        return read_file(host_root.rstrip("/") + resolved, MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise CdiGenError(
                f"{path} is larger than {MAX_BYTES} bytes", code="CDG-C001", subject=path
            ) from error
        raise CdiGenError(
            f"cannot read {path}: {error.strerror}", code="CDG-C001", subject=path
        ) from error
