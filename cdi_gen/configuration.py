# SPDX-License-Identifier: Apache-2.0
"""``/etc/cdi-gen/config.toml``: how this host is laid out, said once by its administrator.

Every command that looks at the host takes from it what neither its command line nor its environment
says. ``/etc/cdi-gen/config.d/*.toml`` come after it, by name; the last that has a key counts::

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
"""The options of ``generate`` that describe a host, and whether they may be given several times."""


class Setting(NamedTuple):
    """What a key is set to."""

    value: str | tuple[str, ...]
    """An absolute path, or several."""
    source: str
    """File and line, for people."""


Settings = dict[str, Setting]


def files(host_root: str = "/") -> list[str]:
    """The files that there are, in rising priority, as they are seen under the host's root.

    Raises:
        CdiGenError: a directory cannot be read.
    """
    prefix = host_root.rstrip("/")
    try:
        directory, name = os.path.split(PATH)
        found = [PATH] if name in _names(directory, host_root) else []
        names = sorted(_names(DROP_INS, host_root))
    except OSError as error:
        place = (error.filename or DROP_INS).removeprefix(prefix)
        raise CdiGenError(
            f"cannot read {place}: {error.strerror}", code="CDG-C001", subject=place
        ) from error
    return found + [f"{DROP_INS}/{name}" for name in names if name.endswith(".toml")]


def _names(directory: str, host_root: str) -> list[str]:
    try:
        place = trust.resolved(directory, seen_from=host_root)
        return os.listdir(host_root.rstrip("/") + place)
    except FileNotFoundError:
        return []


def load(path: str | None = None, host_root: str = "/") -> Settings:
    """What the administrator has said of this host, by key.

    Args:
        path: a file that is read in place of all others, and must be there.
        host_root: where the host's ``/`` is visible to this process.

    Raises:
        UnsafeError: it is run as root, and somebody else could change a file.
        CdiGenError: a file cannot be read, is not TOML, or has what is no setting; file and line.
    """
    found: Settings = {}
    for file in files(host_root) if path is None else [path]:
        found |= _of(file, "/" if path is not None else host_root)
    return found


def _of(path: str, host_root: str) -> Settings:
    # Most hosts have no such file, and pay for no reader.
    from cdi_base import toml  # noqa: PLC0415

    content = _read(path, host_root)
    try:
        values, lines = toml.parse(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CdiGenError(
            f"{path}, line {line}: this is not UTF-8 text", code="CDG-C002", subject=path
        ) from error
    except toml.TomlError as error:
        raise CdiGenError(
            f"{path}, {error}",
            hint="the format is TOML: key = value",
            code="CDG-C002",
            subject=path,
        ) from error
    found: Settings = {}
    for name, table in values.items():
        place = f"{path}, line {lines.get((name,), 1)}"
        if name != TABLE:
            hint = f"known: [{TABLE}]"
            if name in KEYS:
                hint = f"write it below a line [{TABLE}]"
            raise CdiGenError(
                f"{place}: there is no {name!a}", hint=hint, code="CDG-C003", subject=place
            )
        if not isinstance(table, dict):
            raise CdiGenError(
                f"{place}: {TABLE} is no table",
                hint=f"write [{TABLE}]",
                code="CDG-C004",
                subject=place,
            )
        for key, value in table.items():
            place = f"{path}, line {lines.get((name, key)) or lines.get((name,), 1)}"
            found[key] = Setting(_value(key, value, place), place)
    return found


def _value(key: str, value: object, place: str) -> str | tuple[str, ...]:
    if key not in KEYS:
        from difflib import get_close_matches  # noqa: PLC0415

        close = get_close_matches(key, KEYS, n=1)
        suggestion = f"; did you mean {close[0]}?" if close else ""
        raise CdiGenError(
            f"{place}: there is no key {key!a}{suggestion}",
            hint=f"known: {', '.join(KEYS)}",
            code="CDG-C003",
            subject=place,
        )
    if KEYS[key]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise CdiGenError(
                f"{place}: {key} has to be a list of paths",
                hint=f'like: {key} = ["/usr/lib64"]',
                code="CDG-C004",
                subject=place,
            )
        return tuple(_path(key, each, place) for each in value)
    if not isinstance(value, str):
        raise CdiGenError(
            f"{place}: {key} has to be a path",
            hint=f'like: {key} = "/usr"',
            code="CDG-C004",
            subject=place,
        )
    return _path(key, value, place)


def _path(key: str, value: str, place: str) -> str:
    if not value.startswith("/") or not value.isprintable():
        raise CdiGenError(
            f"{place}: {key}: {value!a} is not an absolute path", code="CDG-C004", subject=place
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
                    hint="it says which files root puts into containers and runs, so only root may "
                    "be able to change it: correct owner and mode (root:root 0644)",
                    code="CDG-C005",
                    subject=path,
                )
        # A link of the host's leads to a file of the host, not to one of this container.
        place = trust.resolved(absolute, seen_from=host_root)
        return read_file(host_root.rstrip("/") + place, MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise CdiGenError(
                f"{path} is larger than {MAX_BYTES} bytes", code="CDG-C001", subject=path
            ) from error
        raise CdiGenError(
            f"cannot read {path}: {error.strerror}", code="CDG-C001", subject=path
        ) from error
