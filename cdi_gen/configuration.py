# SPDX-License-Identifier: Apache-2.0
"""Reads ``/etc/cdi-gen/config.toml``, in which the administrator describes the host's layout.

A command that reads the host uses a setting if neither the command line nor the environment has the
option. ``/etc/cdi-gen/config.d/*.toml`` are read after the file, ordered by name; the last value of
a key wins::

    [host]
    driver-root = "/run/nvidia/driver"
    library-search-path = ["/run/nvidia/driver/usr/lib64"]
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

TABLE = "host"
KEYS: dict[str, bool] = {
    "driver-root": False,
    "dev-root": False,
    "library-search-path": True,
    "config-search-path": True,
    "nvidia-cdi-hook-path": False,
}
"""The options of ``generate`` that describe a host, and whether an option has several values."""


class Setting(NamedTuple):
    """The value of a key."""

    value: str | tuple[str, ...]
    """An absolute path, or several absolute paths."""
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


def load(path: str | None = None, host_root: str = "/") -> Settings:
    """Return the settings of the host by key.

    Args:
        path: a file that is read instead of the configuration files of the host; it must exist.
        host_root: the path at which the host's ``/`` is visible to this process.

    Raises:
        UnsafeError: this process runs as root, and another user could change a file.
        CdiGenError: a file cannot be read, is not TOML, or has an unknown key or a wrong value; the
            message has file and line.
    """
    settings: Settings = {}
    for file in files(host_root) if path is None else [path]:
        settings |= _settings(file, "/" if path is not None else host_root)
    return settings


def _settings(path: str, host_root: str) -> Settings:
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
    settings: Settings = {}
    for name, table in values.items():
        position = f"{path}, line {lines.get((name,), 1)}"
        if name != TABLE:
            kind = "table" if isinstance(table, dict) else "key"
            is_key = name in KEYS
            hint = f"write the key below a line [{TABLE}]" if is_key else f"use table [{TABLE}]"
            raise CdiGenError(
                f"{position}: unknown {kind} {name!a}",
                hint=hint,
                code="CDG-C003",
                subject=position,
            )
        if not isinstance(table, dict):
            raise CdiGenError(
                f"{position}: {TABLE} must be a table",
                hint=f"write a line [{TABLE}], and the keys below",
                code="CDG-C004",
                subject=position,
            )
        for key, value in table.items():
            position = f"{path}, line {lines.get((name, key)) or lines.get((name,), 1)}"
            settings[key] = Setting(_value(key, value, position), position)
    return settings


def _value(key: str, value: object, position: str) -> str | tuple[str, ...]:
    if key not in KEYS:
        from difflib import get_close_matches  # noqa: PLC0415

        matches = get_close_matches(key, KEYS, n=1)
        suggestion = f"; did you mean {matches[0]}?" if matches else ""
        raise CdiGenError(
            f"{position}: unknown key {key!a}{suggestion}",
            hint=f"the keys are {', '.join(KEYS)}",
            code="CDG-C003",
            subject=position,
        )
    if KEYS[key]:
        if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
            raise CdiGenError(
                f"{position}: {key} must be a list of paths",
                hint=f'for example: {key} = ["/usr/lib64"]',
                code="CDG-C004",
                subject=position,
            )
        return tuple(_path(key, path, position) for path in value)
    if not isinstance(value, str):
        raise CdiGenError(
            f"{position}: {key} must be a path",
            hint=f'for example: {key} = "/usr"',
            code="CDG-C004",
            subject=position,
        )
    return _path(key, value, position)


def _path(key: str, value: str, position: str) -> str:
    if not value.startswith("/") or not value.isprintable():
        raise CdiGenError(
            f"{position}: {key}: {value!a} is not an absolute path",
            code="CDG-C004",
            subject=position,
        )
    return value


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
