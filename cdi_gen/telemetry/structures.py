# SPDX-License-Identifier: Apache-2.0
"""NVML's structures and constants, as its header has them.

The tests compare them with those of pynvml.
"""

from __future__ import annotations

from ctypes import (
    Structure,
    Union,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_longlong,
    c_ubyte,
    c_uint,
    c_ulonglong,
    c_ushort,
    c_void_p,
)

CLOCK_SM, CLOCK_MEMORY, CLOCK_VIDEO = 1, 2, 3
TEMPERATURE_GPU = 0
THRESHOLD_SHUTDOWN, THRESHOLD_SLOWDOWN, THRESHOLD_MEMORY_MAX, THRESHOLD_GPU_MAX = range(4)
MIG_ENABLED = 1
MEMORY_V2 = 0x02000028
FABRIC_V2, FABRIC_V3 = 0x02000024, 0x03000028
TEMPERATURE_V1 = 0x0100000C
MARGIN_TEMPERATURE_V1 = 0x01000008
SRAM_STATUS_V1 = 0x01000068
GPM_VERSION = 1
EVENT_XID, EVENT_CLOCK = 0x8, 0x10
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


class ProcessDetail(Structure):
    """Of version 3 of the functions in some drivers, such as 535.54."""

    _fields_ = (
        ("pid", c_uint),
        ("memory", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
        ("protected_memory", c_ulonglong),
    )


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
        ("short", c_ushort),
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


class EventData(Structure):
    """An event of a GPU, or of an instance of it."""

    _fields_ = (
        ("device", c_void_p),
        ("type", c_ulonglong),
        ("data", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class GpmSupport(Structure):
    """Whether a GPU has GPM."""

    _fields_ = (("version", c_uint), ("is_supported", c_uint))


class GpmMetric(Structure):
    """A metric of GPM."""

    _fields_ = (
        ("id", c_uint),
        ("code", c_uint),
        ("value", c_double),
        ("short_name", c_char_p),
        ("long_name", c_char_p),
        ("unit", c_char_p),
    )


class Temperature(Structure):
    """The temperature at a sensor."""

    _fields_ = (("version", c_uint), ("sensor", c_uint), ("celsius", c_int))


class MarginTemperature(Structure):
    """The degrees to the temperature at which the GPU slows down."""

    _fields_ = (("version", c_uint), ("celsius", c_int))


class RowRemapperHistogram(Structure):
    """The numbers of memory banks, by how many spare rows they have."""

    _fields_ = tuple((name, c_uint) for name in ("max", "high", "partial", "low", "none"))


class SramStatus(Structure):
    """ECC errors of SRAM."""

    _fields_ = (
        ("version", c_uint),
        ("counts", c_ulonglong * 11),
        ("threshold_exceeded", c_uint),
    )


class FabricInfo(Structure):
    """The state of a GPU in its NVLink fabric."""

    _fields_ = (
        ("cluster", c_ubyte * 16),
        ("status", c_uint),
        ("clique", c_uint),
        ("state", c_uint),
    )


class FabricInfoV2(Structure):
    """With the health."""

    _fields_ = (
        ("version", c_uint),
        ("cluster", c_ubyte * 16),
        ("status", c_uint),
        ("clique", c_uint),
        ("state", c_uint),
        ("health_mask", c_uint),
    )


class FabricInfoV3(Structure):
    """With the summary of the health."""

    _fields_ = (*FabricInfoV2._fields_, ("health_summary", c_ubyte))


class LicenseExpiry(Structure):
    """When a licence ends."""

    _fields_ = (
        ("year", c_uint),
        *((name, c_ushort) for name in ("month", "day", "hour", "minute", "second")),
        ("status", c_ubyte),
    )


class LicensableFeature(Structure):
    """A feature of a virtual GPU."""

    _fields_ = (
        ("feature", c_uint),
        ("state", c_uint),
        ("information", c_char * 128),
        ("product", c_char * 128),
        ("is_enabled", c_uint),
        ("expiry", LicenseExpiry),
    )


class LicensableFeatures(Structure):
    """The features of a virtual GPU."""

    _fields_ = (
        ("is_supported", c_int),
        ("count", c_uint),
        ("features", LicensableFeature * 3),
    )
