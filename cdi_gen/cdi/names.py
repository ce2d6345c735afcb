# SPDX-License-Identifier: Apache-2.0
"""The grammar of names: ``vendor.example/class=device``.

Vendor and class start with a letter, a device name with a letter or a digit; all end with a letter
or a digit; between are letters, digits, ``_``, ``-`` and ``.``, in device names also ``:``. ASCII
only. Source: the standard's SPEC.md, "Kind" and "Name".
"""

from __future__ import annotations

import re
from typing import NamedTuple

_KIND_PART = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_DEVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")


class BadNameError(ValueError):
    """A name breaks the grammar; the message says which character, and where."""


class QualifiedName(NamedTuple):
    """The name by which a person or an engine asks for a device."""

    vendor: str
    device_class: str
    device: str

    @property
    def kind(self) -> str:
        """``vendor/class``, as a spec has it."""
        return f"{self.vendor}/{self.device_class}"

    def __str__(self) -> str:
        return f"{self.vendor}/{self.device_class}={self.device}"


def parse(text: str) -> QualifiedName:
    """Read ``vendor/class=device``.

    Raises:
        BadNameError: it is not a qualified name.
    """
    kind, equals, device = text.partition("=")
    if not equals:
        raise BadNameError(f"{text!r} is not a qualified device name: it has no '='")
    vendor, device_class = parse_kind(kind)
    return QualifiedName(vendor=vendor, device_class=device_class, device=check_device(device))


def parse_kind(text: str) -> tuple[str, str]:
    """Read ``vendor/class``; return the two.

    Raises:
        BadNameError: it is not a kind.
    """
    vendor, slash, device_class = text.partition("/")
    if not slash:
        raise BadNameError(f"{text!r} is not a kind: it has no '/' between vendor and class")
    return check_vendor(vendor), check_class(device_class)


def check_vendor(name: str) -> str:
    """Return ``name`` if it is a vendor, ``nvidia.com`` for one.

    Raises:
        BadNameError: it is not.
    """
    return _checked("vendor", name, _KIND_PART, start="a letter", inner="letters, digits, '_-.'")


def check_class(name: str) -> str:
    """Return ``name`` if it is a class, ``gpu`` for one.

    Raises:
        BadNameError: it is not.
    """
    return _checked("class", name, _KIND_PART, start="a letter", inner="letters, digits, '_-.'")


def check_device(name: str) -> str:
    """Return ``name`` if it is a device name, ``0`` or ``0:1`` for one.

    Raises:
        BadNameError: it is not.
    """
    return _checked(
        "device name", name, _DEVICE, start="a letter or digit", inner="letters, digits, '_-.:'"
    )


def _checked(what: str, name: str, form: re.Pattern[str], *, start: str, inner: str) -> str:
    if form.fullmatch(name):
        return name
    if not name:
        raise BadNameError(f"the {what} is empty")
    if not form.fullmatch(name[0]):
        raise BadNameError(f"{what} {name!r} starts with {name[0]!r}; it must start with {start}")
    for position, character in enumerate(name, start=1):
        if not form.fullmatch(f"a{character}a"):
            raise BadNameError(
                f"{what} {name!r} has {character!r} at character {position}; allowed are {inner}"
            )
    raise BadNameError(
        f"{what} {name!r} ends with {name[-1]!r}; it must end with a letter or digit"
    )
