# SPDX-License-Identifier: Apache-2.0
"""Checks names of CDI: `vendor.example/class=device`.

Vendor and class start with a letter, a device name with a letter or a digit. All end with a letter
or a digit. Between these are letters, digits, `_`, `-` and `.`, in device names also `:`. All are
ASCII. Source: the standard's SPEC.md, "Kind" and "Name".
"""

from __future__ import annotations

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ALPHANUMERIC = _LETTERS | frozenset("0123456789")
_KIND_PART = _ALPHANUMERIC | frozenset("_-.")
_DEVICE = _KIND_PART | {":"}


def is_qualified(text: str) -> bool:
    """Whether a text is the qualified name of a device, not an index, a UUID or other text."""
    return fault_of_qualified(text) is None


def fault_of_qualified(text: str) -> str | None:
    """Return why a text is not a `vendor/class=device`; None if it is one."""
    kind, equals, device = text.partition("=")
    if not equals:
        return f"{text!r} is not a qualified device name: it has no '='"
    return fault_of_kind(kind) or fault_of_device(device)


def vendor_of(name: str) -> str:
    """Return the vendor of a kind, or of a qualified device name."""
    return name.partition("/")[0]


def fault_of_kind(text: str) -> str | None:
    """Return why a text is not a `vendor/class`; None if it is one."""
    vendor, slash, class_ = text.partition("/")
    if not slash:
        return f"{text!r} is not a kind: it has no '/' between vendor and class"
    return fault_of_part("vendor", vendor) or fault_of_part("class", class_)


def fault_of_part(part: str, name: str) -> str | None:
    """Return why a name is not a vendor, or not a class; None if it is one."""
    return _fault(part, name, _LETTERS, "a letter", _KIND_PART, "letters, digits, '_-.'")


def is_device(name: str) -> bool:
    """Whether a name is a valid device name."""
    return fault_of_device(name) is None


def fault_of_device(name: str) -> str | None:
    """Return why a name is not a device name; None if it is one."""
    start = "a letter or digit"
    return _fault("device name", name, _ALPHANUMERIC, start, _DEVICE, "letters, digits, '_-.:'")


def _fault(
    part: str, name: str, first: frozenset[str], start: str, inner: frozenset[str], allowed: str
) -> str | None:
    if not name:
        return f"the {part} is empty"
    if name[0] not in first:
        return f"{part} {name!r} starts with {name[0]!r}; it must start with {start}"
    if not inner.issuperset(name):
        position, character = next((n, c) for n, c in enumerate(name, 1) if c not in inner)
        return f"{part} {name!r} has {character!r} at character {position}; allowed are {allowed}"
    if name[-1] not in _ALPHANUMERIC:
        return f"{part} {name!r} ends with {name[-1]!r}; it must end with a letter or digit"
    return None
