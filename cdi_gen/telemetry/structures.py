# SPDX-License-Identifier: Apache-2.0
"""NVML's structures and constants, as its header has them.

The tests compare them with those of pynvml.
"""

from __future__ import annotations

from ctypes import Structure, Union, c_char, c_double, c_int, c_longlong, c_uint, c_ulonglong

CLOCK_SM, CLOCK_MEMORY, CLOCK_VIDEO = 1, 2, 3
TEMPERATURE_GPU = 0
MIG_ENABLED = 1
MEMORY_V2 = 0x02000028
NOT_AVAILABLE = 0xFFFFFFFFFFFFFFFF
NO_INSTANCE = 0xFFFFFFFF


class PciInfo(Structure):
    """The address of a GPU."""

    _fields_ = (
        ("bus_id_legacy", c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("pci_device_id", c_uint),
        ("pci_subsystem_id", c_uint),
        ("bus_id", c_char * 32),
    )


class Utilization(Structure):
    """Percent of the last sample period."""

    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class Memory(Structure):
    """Of memory and BAR1. `used` has the reserved memory too."""

    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class MemoryV2(Structure):
    """Of memory. `used` does not have the reserved memory."""

    _fields_ = (
        ("version", c_uint),
        ("total", c_ulonglong),
        ("reserved", c_ulonglong),
        ("free", c_ulonglong),
        ("used", c_ulonglong),
    )


class ProcessInfo(Structure):
    """Of versions 2 and 3 of the functions."""

    _fields_ = (
        ("pid", c_uint),
        ("memory", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class ProcessInfoV1(Structure):
    """Of version 1 of the functions, without MIG."""

    _fields_ = (("pid", c_uint), ("memory", c_ulonglong))


class ProcessSample(Structure):
    """The utilisation of a process, in percent."""

    _fields_ = (
        ("pid", c_uint),
        ("timestamp", c_ulonglong),
        ("sm", c_uint),
        ("memory", c_uint),
        ("encoder", c_uint),
        ("decoder", c_uint),
    )


class _Value(Union):
    _fields_ = (
        ("real", c_double),
        ("small", c_uint),
        ("integer", c_int),
        ("large", c_ulonglong),
        ("signed", c_longlong),
    )


class FieldValue(Structure):
    """The answer about one field."""

    _fields_ = (
        ("field", c_uint),
        ("scope", c_uint),
        ("timestamp", c_longlong),
        ("latency", c_longlong),
        ("type", c_uint),
        ("code", c_uint),
        ("value", _Value),
    )
