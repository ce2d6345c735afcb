# SPDX-License-Identifier: Apache-2.0
"""``/etc/cdi-gen/config.toml``: how this host is laid out, said once by its administrator.

Every command that looks at the host takes from it what neither its command line nor its environment
says. ``/etc/cdi-gen/config.d/*.toml`` come after it, by name; the last that has a key counts::

    [host]
    driver-root = "/run/nvidia/driver"
    library-search-path = ["/run/nvidia/driver/usr/lib64"]
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from cdi_gen import ownership
from cdi_gen.errors import CdiGenError, UnsafeError

PATH = "/etc/cdi-gen/config.toml"
DROP_INS = "/etc/cdi-gen/config.d"
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

_OVERFLOW_USER = 65534
"""Whom the machine's root is shown as in a user namespace."""


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
        raise CdiGenError(f"cannot read {place}: {error.strerror}") from error
    return found + [f"{DROP_INS}/{name}" for name in names if name.endswith(".toml")]


def _names(directory: str, host_root: str) -> list[str]:
    try:
        place = ownership.followed(directory, seen_from=host_root)
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
        raise CdiGenError(f"{path}, line {line}: this is not UTF-8 text") from error
    except toml.TomlError as error:
        raise CdiGenError(f"{path}, {error}", hint="the format is TOML: key = value") from error
    found: Settings = {}
    for name, table in values.items():
        place = f"{path}, line {lines.get((name,), 1)}"
        if name != TABLE:
            hint = f"known: [{TABLE}]"
            if name in KEYS:
                hint = f"write it below a line [{TABLE}]"
            raise CdiGenError(f"{place}: there is no {name!a}", hint=hint)
        if not isinstance(table, dict):
            raise CdiGenError(f"{place}: {TABLE} is no table", hint=f"write [{TABLE}]")
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
            f"{place}: there is no key {key!a}{suggestion}", hint=f"known: {', '.join(KEYS)}"
        )
    if KEYS[key]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise CdiGenError(
                f"{place}: {key} has to be a list of paths", hint=f'like: {key} = ["/usr/lib64"]'
            )
        return tuple(_path(key, each, place) for each in value)
    if not isinstance(value, str):
        raise CdiGenError(f"{place}: {key} has to be a path", hint=f'like: {key} = "/usr"')
    return _path(key, value, place)


def _path(key: str, value: str, place: str) -> str:
    if not value.startswith("/") or not value.isprintable():
        raise CdiGenError(f"{place}: {key}: {value!a} is not an absolute path")
    return value


def _read(path: str, host_root: str) -> bytes:
    try:
        reason = ownership.fault(os.path.abspath(path), seen_from=host_root, trusted=_root())
        if reason and os.geteuid() == 0:
            raise UnsafeError(
                f"{path} is not read: {reason}",
                hint="it says which files root puts into containers and runs, so only root may be "
                "able to change it: correct owner and mode (root:root 0644)",
            )
        # NONBLOCK: opening a FIFO must not wait for somebody to write to it.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        # What was looked at: a link of the host's leads to its files, not to those of a container.
        place = ownership.followed(os.path.abspath(path), seen_from=host_root)
        with open(os.open(host_root.rstrip("/") + place, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CdiGenError(f"{path} is not a regular file")
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CdiGenError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise CdiGenError(f"{path} is larger than {MAX_BYTES} bytes")
    return content


def _root() -> tuple[int, ...]:
    """Who the machine's root may be shown as."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        whole = file.read().split() == ["0", "0", "4294967295"]
    return (0,) if whole else (0, _OVERFLOW_USER)
