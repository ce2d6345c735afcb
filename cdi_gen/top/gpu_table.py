# SPDX-License-Identifier: Apache-2.0
"""The table of GPUs and MIG devices; pure."""

from __future__ import annotations

from cdi_gen.telemetry.model import GpuReading, MigReading, Quantities, Reading
from cdi_gen.top import measures
from cdi_gen.top.glyphs import Glyphs
from cdi_gen.top.history import History
from cdi_gen.top.lines import Piece, Style
from cdi_gen.top.sample import devices, utilization
from cdi_gen.top.table import Cell, Column, Gauge, Past, Row

COLUMNS = (
    Column("index", "GPU", 0),
    Column("model", "MODEL", 4, least=12),
    Column("load", "UTIL", 0, is_right=True),
    Column("load-bar", "", 5, least=8, most=16),
    Column("memory", "MEMORY", 1, is_right=True),
    Column("memory-bar", "", 7, least=8, most=12),
    Column("temperature", "TEMP", 2, is_right=True),
    Column("power", "POWER", 3, is_right=True),
    Column("sm-clock", "CLOCK", 6, is_right=True),
    Column("memory-clock", "MEM CLOCK", 10, is_right=True),
    Column("history", "HISTORY", 8, most=30, least=12),
    Column("fan", "FAN", 12, is_right=True),
    Column("codecs", "ENC/DEC", 12, is_right=True),
    Column("notes", "NOTES", 5, least=8, most=60),
)
_HOT = 85
"""Degrees Celsius from which on a temperature is shown as high, if the GPU's limit is not known."""
_USUAL = frozenset({"gpu_idle", "power_cap", "clocks_setting"})
_FULL = 0.95
"""The share of memory or of the power limit from which on it is shown as high."""


def rows(reading: Reading, history: History, glyphs: Glyphs) -> list[Row]:
    """Return a row for each GPU and each MIG device."""
    return [_row(device, history, glyphs) for device in devices(reading).values()]


def _row(device: GpuReading | MigReading, history: History, glyphs: Glyphs) -> Row:
    cells: dict[str, Cell] = {"index": Piece(_index(device), Style.STRONG)}
    if isinstance(device, GpuReading) and device.fault:
        times = f" ({device.timeouts} passes)" if device.timeouts > 1 else ""
        return Row(cells, Piece(glyphs.clean(device.fault) + times, Style.ALARM))
    past = history.of_device(device.index)
    quantities = device.quantities
    load = utilization(device)
    used, capacity = quantities.get("fb_used_bytes"), quantities.get("fb_capacity_bytes")
    share = used / capacity if used is not None and capacity else None
    full = Style.NOTICE if share is not None and share >= _FULL else Style.PLAIN
    cells |= {
        "model": Piece(_model(device, glyphs)),
        "load-bar": Gauge(load),
        "load": Piece(measures.percent(load, glyphs.dash)),
        "memory-bar": Gauge(share, Style.MEMORY),
        "memory": Piece(measures.size_of(used, capacity, glyphs.dash), full),
        "history": Past(past),
    }
    if isinstance(device, MigReading):
        return Row(cells)
    return Row(cells | _of_gpu(device, glyphs))


def _of_gpu(gpu: GpuReading, glyphs: Glyphs) -> dict[str, Cell]:
    """Return the cells that MIG devices do not have."""
    quantities = gpu.quantities
    cells: dict[str, Cell] = {
        "temperature": _temperature(quantities, glyphs),
        "power": _power(quantities, glyphs),
        "sm-clock": Piece(_megahertz(quantities, "sm_clock_hertz", glyphs)),
        "memory-clock": Piece(_megahertz(quantities, "memory_clock_hertz", glyphs)),
        "notes": _notes(gpu),
    }
    if "fan_speed_ratio" in quantities:
        cells["fan"] = Piece(measures.percent(quantities["fan_speed_ratio"], glyphs.dash))
    codecs = quantities.get("enc_util_ratio"), quantities.get("dec_util_ratio")
    if any(codecs):
        cells["codecs"] = Piece("/".join(measures.percent(share, glyphs.dash) for share in codecs))
    return cells


def _index(device: GpuReading | MigReading) -> str:
    return f" {device.index}" if isinstance(device, MigReading) else device.index


def _model(device: GpuReading | MigReading, glyphs: Glyphs) -> str:
    if isinstance(device, MigReading):
        return glyphs.clean(f"MIG {device.profile}")
    return glyphs.clean(device.model).removeprefix("NVIDIA ")


def _temperature(quantities: Quantities, glyphs: Glyphs) -> Piece:
    degrees = quantities.get("gpu_temp_celsius")
    if degrees is None:
        return Piece(glyphs.dash)
    limit = quantities.get("gpu_max_op_temp_celsius", _HOT)
    style = Style.NOTICE if degrees >= limit else Style.PLAIN
    return Piece(f"{degrees:.0f}{glyphs.degree}C", style)


def _power(quantities: Quantities, glyphs: Glyphs) -> Piece:
    watts = quantities.get("board_power_watts")
    if watts is None:
        return Piece(glyphs.dash)
    limit = quantities.get("board_power_limit_enforced_watts")
    if not limit:
        return Piece(f"{watts:3.0f} W")
    style = Style.NOTICE if watts >= _FULL * limit else Style.PLAIN
    return Piece(f"{watts:3.0f}/{limit:.0f} W", style)


def _megahertz(quantities: Quantities, key: str, glyphs: Glyphs) -> str:
    hertz = quantities.get(key)
    return glyphs.dash if hertz is None else f"{hertz / 1e6:4.0f} MHz"


def _notes(gpu: GpuReading) -> Piece:
    """Return what else should be known: errors, and why the clocks are lowered.

    A GPU at work is at its power cap most of the time, and its power says so.
    """
    xids = [f"Xid {xid}" + (f" x{count}" if count > 1 else "") for xid, count in gpu.xids.items()]
    reasons = sorted(reason.replace("_", " ") for reason in gpu.clock_events - _USUAL)
    parts = [*xids, *(["clocks: " + ", ".join(reasons)] if reasons else [])]
    if gpu.timeouts:
        parts.append(f"did not answer {gpu.timeouts}x")
    style = Style.ALARM if xids or gpu.timeouts else Style.NOTICE
    return Piece("; ".join(parts), style)
