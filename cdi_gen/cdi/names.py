# SPDX-License-Identifier: Apache-2.0
"""Names of devices: ``vendor.example/class=device``.

The grammar is in ``cdi_base.cdi.names``, which the shim goes by too.
"""

from __future__ import annotations

from typing import NamedTuple

from cdi_base.cdi import names


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
    _refuse(names.fault_of_qualified(text))
    kind, _, device = text.partition("=")
    vendor, _, device_class = kind.partition("/")
    return QualifiedName(vendor=vendor, device_class=device_class, device=device)


def parse_kind(text: str) -> tuple[str, str]:
    """Read ``vendor/class``; return the two.

    Raises:
        BadNameError: it is not a kind.
    """
    _refuse(names.fault_of_kind(text))
    vendor, _, device_class = text.partition("/")
    return vendor, device_class


def check_vendor(name: str) -> str:
    """Return ``name`` if it is a vendor, ``nvidia.com`` for one.

    Raises:
        BadNameError: it is not.
    """
    _refuse(names.fault_of_part("vendor", name))
    return name


def check_class(name: str) -> str:
    """Return ``name`` if it is a class, ``gpu`` for one.

    Raises:
        BadNameError: it is not.
    """
    _refuse(names.fault_of_part("class", name))
    return name


def check_device(name: str) -> str:
    """Return ``name`` if it is a device name, ``0`` or ``0:1`` for one.

    Raises:
        BadNameError: it is not.
    """
    _refuse(names.fault_of_device(name))
    return name


def _refuse(fault: str | None) -> None:
    if fault:
        raise BadNameError(fault)
