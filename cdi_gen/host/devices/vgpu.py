# SPDX-License-Identifier: Apache-2.0
"""Recognises the vGPUs of a virtual machine, and the driver of the host that provides them.

A vGPU has a vendor-specific capability in its PCI configuration space: the capability's id, the
next capability, the length, the signature ``VF``, and then records of an id, a length and data. The
record 0 has the version of the host's driver and the branch, ten characters each. Only root can
read that part of the configuration space.
"""

from __future__ import annotations

from typing import NamedTuple

STATUS, CAPABILITY_LIST = 0x06, 0x10
"""The offset of the status, and its bit for a list of capabilities."""
FIRST_CAPABILITY = 0x34
"""The offset of the offset of the first capability."""
VENDOR_SPECIFIC = 0x09
SIGNATURE = b"VF"
FIRST_RECORD = 5
DRIVER_RECORD = 0
RECORD_HEAD = 2
"""The bytes of the id and the length of a record, which the length includes."""
TEXT_LENGTH = 10

CONFIGURATION_SIZE = 256


class HostDriver(NamedTuple):
    """The driver of the host that provides a vGPU; empty texts if the vGPU does not name it."""

    version: str = ""
    branch: str = ""


class ConfigurationIncompleteError(ValueError):
    """The process may read only the beginning of the configuration space."""


def host_driver(configuration: bytes) -> HostDriver | None:
    """Return the host's driver of a vGPU; None if the PCI device is not a vGPU.

    Args:
        configuration: the configuration space of the PCI device.

    Raises:
        ConfigurationIncompleteError: it has less than 256 bytes.
    """
    if len(configuration) < CONFIGURATION_SIZE:
        raise ConfigurationIncompleteError(f"it has {len(configuration)} bytes")
    capability = _vendor_capability(configuration)
    if capability[3:FIRST_RECORD] != SIGNATURE:
        return None
    position = FIRST_RECORD
    while position + 1 < len(capability):
        kind, length = capability[position], capability[position + 1]
        data = capability[position + 2 : position + 2 + 2 * TEXT_LENGTH]
        if kind == DRIVER_RECORD and len(data) == 2 * TEXT_LENGTH:
            return HostDriver(_text(data[:TEXT_LENGTH]), _text(data[TEXT_LENGTH:]))
        if kind == DRIVER_RECORD or length < RECORD_HEAD:
            break
        position += length
    return HostDriver()


def _vendor_capability(configuration: bytes) -> bytes:
    """Return the vendor-specific capability, or nothing; a list with a loop or a gap ends there."""
    if not configuration[STATUS] & CAPABILITY_LIST:
        return b""
    position = configuration[FIRST_CAPABILITY]
    visited: set[int] = set()
    while position and position not in visited and position + 2 < CONFIGURATION_SIZE:
        visited.add(position)
        kind, following, length = configuration[position : position + 3]
        if kind == VENDOR_SPECIFIC:
            return configuration[position : position + length]
        if kind == 0xFF:
            break
        position = following
    return b""


def _text(data: bytes) -> str:
    return data.strip(b"\0").decode("ascii", errors="replace")
