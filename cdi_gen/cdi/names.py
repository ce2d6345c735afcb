# SPDX-License-Identifier: Apache-2.0
"""Parses qualified device names, ``vendor.example/class=device``.

The grammar is in ``cdi_base.cdi.names``, which the shim uses as well.
"""

from __future__ import annotations

from typing import NamedTuple

from cdi_base.cdi import names


class BadNameError(ValueError):
    """A name breaks the grammar; the message names the character and its position."""


class QualifiedName(NamedTuple):
    """The name by which a user or an engine requests a device."""

    vendor: str
    device_class: str
    device: str

    @property
    def kind(self) -> str:
        """The kind, ``vendor/class``."""
        return f"{self.vendor}/{self.device_class}"

    def __str__(self) -> str:
        return f"{self.vendor}/{self.device_class}={self.device}"


def parse(text: str) -> QualifiedName:
    """Read ``vendor/class=device``.

    Raises:
        BadNameError: the text is not a qualified name.
    """
    _raise(names.fault_of_qualified(text))
    kind, _, device = text.partition("=")
    vendor, _, device_class = kind.partition("/")
    return QualifiedName(vendor=vendor, device_class=device_class, device=device)


def parse_kind(text: str) -> tuple[str, str]:
    """Read ``vendor/class``; return the vendor and the class.

    Raises:
        BadNameError: the text is not a kind.
    """
    _raise(names.fault_of_kind(text))
    vendor, _, device_class = text.partition("/")
    return vendor, device_class


def check_vendor(name: str) -> str:
    """Return ``name`` if it is a valid vendor, for example ``nvidia.com``.

    Raises:
        BadNameError: the name is not a valid vendor.
    """
    _raise(names.fault_of_part("vendor", name))
    return name


def check_class(name: str) -> str:
    """Return ``name`` if it is a valid class, for example ``gpu``.

    Raises:
        BadNameError: the name is not a valid class.
    """
    _raise(names.fault_of_part("class", name))
    return name


def check_device(name: str) -> str:
    """Return ``name`` if it is a valid device name, for example ``0`` or ``0:1``.

    Raises:
        BadNameError: the name is not a valid device name.
    """
    _raise(names.fault_of_device(name))
    return name


def _raise(fault: str | None) -> None:
    if fault:
        raise BadNameError(fault)
