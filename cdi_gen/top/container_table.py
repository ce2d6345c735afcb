# SPDX-License-Identifier: Apache-2.0
"""The table of containers and of the host's processes; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cdi_gen.containers.model import REFUSED
from cdi_gen.telemetry.model import GpuReading, MigReading, Reading
from cdi_gen.top import measures
from cdi_gen.top.glyphs import Glyphs
from cdi_gen.top.history import History
from cdi_gen.top.lines import Piece, Style
from cdi_gen.top.occupants import SHORT_ID, DeviceUse, Occupant, OccupantProcess
from cdi_gen.top.sample import devices
from cdi_gen.top.table import Cell, Column, Gauge, Past, Row
from cdi_gen.top.view import Order, View, is_descending

COLUMNS = (
    Column("name", "CONTAINER", 0, least=14, most=60),
    Column("engine", "ENGINE", 4),
    Column("pod", "POD", 3, least=14, most=60),
    Column("gpu", "GPU", 0, least=3, most=20),
    Column("load", "UTIL", 0, is_right=True),
    Column("load-bar", "", 5, least=8, most=16),
    Column("memory", "MEMORY", 0, is_right=True),
    Column("memory-bar", "", 7, least=8, most=12),
    Column("processes", "PROC", 2, is_right=True),
    Column("history", "HISTORY", 9, most=30, least=12),
    Column("image", "IMAGE", 6, least=12, most=80),
    Column("owner", "OWNER", 10, least=6, most=40),
    Column("id", "ID", 8),
    Column("codecs", "ENC/DEC", 11, is_right=True),
)


_ORDERED = {
    Order.UTILIZATION: "load",
    Order.MEMORY: "memory",
    Order.GPU: "gpu",
    Order.NAME: "name",
    Order.ENGINE: "engine",
    Order.PROCESSES: "processes",
}
"""The column by which containers are sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row, and what it is about."""

    row: Row
    occupant: Occupant


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the rows are made of, beside the containers."""

    devices: Mapping[str, GpuReading | MigReading]
    """By index."""
    history: History
    glyphs: Glyphs
    has_pods: bool
    """Whether the table has a column for pods; otherwise the name has the pod's."""


def columns(view: View, glyphs: Glyphs) -> tuple[Column, ...]:
    """Return the columns, with an arrow at the one by which the containers are sorted."""
    arrow = glyphs.down if is_descending(view) else glyphs.up
    return tuple(
        column._replace(title=f"{column.title}{arrow}")
        if column.key == _ORDERED[view.order]
        else column
        for column in COLUMNS
    )


def ordered(occupants: Iterable[Occupant], view: View, reading: Reading) -> list[Occupant]:
    """Return what the filter lets through in the order that was chosen; the host is the last."""
    places = {index: place for place, index in enumerate(devices(reading))}
    chosen = sorted(
        (occupant for occupant in occupants if view.matches(occupant)),
        key=lambda occupant: (_first(occupant, places), occupant.pod, occupant.name, occupant.key),
    )
    chosen.sort(
        key=lambda occupant: _value(occupant, view.order, places), reverse=is_descending(view)
    )
    return sorted(chosen, key=lambda occupant: occupant.is_host)


def entries(occupants: Iterable[Occupant], view: View, context: Context) -> list[Entry]:
    """Return the rows: of containers, their devices, and of the processes of expanded ones."""
    return [
        Entry(row=row, occupant=occupant)
        for occupant in occupants
        for row in _rows(occupant, view, context)
    ]


def _first(occupant: Occupant, places: Mapping[str, int]) -> int:
    return min((places.get(use.device, len(places)) for use in occupant.uses), default=len(places))


def _value(occupant: Occupant, order: Order, places: Mapping[str, int]) -> tuple[float, str]:
    """Return what containers are sorted by; what is not known is less than 0."""
    if order is Order.NAME:
        return 0, f"{occupant.pod} {occupant.name}".casefold()
    if order is Order.ENGINE:
        return 0, occupant.engine
    if order is Order.GPU:
        return _first(occupant, places), ""
    values = {
        Order.UTILIZATION: occupant.utilization,
        Order.MEMORY: occupant.memory,
        Order.PROCESSES: measures.total(use.processes for use in occupant.uses),
    }
    value = values[order]
    return -1 if value is None else value, ""


def _rows(occupant: Occupant, view: View, context: Context) -> list[Row]:
    is_unused = occupant.has_all and not any(use.processes for use in occupant.uses)
    uses = occupant.uses
    if len(uses) > 1 and (view.is_one_row_each or is_unused):
        first, *rest = [_sum_cells(occupant, context)]
    else:
        first, *rest = [_cells(occupant, use, context) for use in uses] or [{}]
    rows = [Row(_identity(occupant, view, context) | first), *map(Row, rest)]
    if view.is_expanded(occupant):
        rows += _process_rows(occupant, context)
    return rows


def _identity(occupant: Occupant, view: View, context: Context) -> dict[str, Cell]:
    """Return the cells that say which container it is."""
    glyphs = context.glyphs
    mark = glyphs.unfolded if view.is_expanded(occupant) else glyphs.folded
    pod = occupant.pod.partition("/")[2]
    name = f"{pod}/{occupant.name}" if pod and not context.has_pods else occupant.name
    style = Style.FAINT if occupant.is_host else Style.STRONG
    return {
        "name": Piece(f"{mark} {glyphs.clean(name) or glyphs.dash}", style),
        "engine": Piece(glyphs.clean(occupant.engine) or glyphs.dash, Style.ENGINE),
        "pod": Piece(glyphs.clean(occupant.pod)),
        "image": Piece(glyphs.clean(occupant.image)),
        "owner": Piece(glyphs.clean(occupant.owner)),
        "id": Piece(glyphs.clean(occupant.id[:SHORT_ID]), Style.FAINT),
    }


def _cells(occupant: Occupant, use: DeviceUse, context: Context) -> dict[str, Cell]:
    """Return the cells that say what it does with one device."""
    glyphs = context.glyphs
    device = context.devices.get(use.device)
    capacity = device.quantities.get("fb_capacity_bytes") if device else None
    is_refused = use.access == REFUSED
    cells = _measured(use.utilization, use.memory, capacity, use.processes, glyphs)
    cells["gpu"] = Piece(
        use.device + ("!" if is_refused else ""), Style.ALARM if is_refused else Style.PLAIN
    )
    cells["history"] = Past(context.history.of_use(occupant, use.device))
    codecs = use.encoder_utilization, use.decoder_utilization
    if any(codecs):
        cells["codecs"] = Piece("/".join(measures.percent(share, glyphs.dash) for share in codecs))
    return cells


def _sum_cells(occupant: Occupant, context: Context) -> dict[str, Cell]:
    """Return the cells of all its devices: the mean of utilisations, the sum of the rest."""
    glyphs = context.glyphs
    uses = occupant.uses
    held = [context.devices.get(use.device) for use in uses]
    capacity = measures.total(_capacity(device) for device in held)
    processes = measures.total(use.processes for use in uses)
    load = measures.mean(use.utilization for use in uses)
    cells = _measured(load, occupant.memory, capacity, processes, glyphs)
    names = measures.indices(use.device for use in uses)
    cells["gpu"] = Piece("all" if occupant.has_all else names)
    return cells


def _capacity(device: GpuReading | MigReading | None) -> float | None:
    return device.quantities.get("fb_capacity_bytes") if device else None


def _measured(
    load: float | None,
    memory: float | None,
    capacity: float | None,
    processes: float | None,
    glyphs: Glyphs,
) -> dict[str, Cell]:
    share = memory / capacity if memory is not None and capacity else None
    return {
        "load-bar": Gauge(load),
        "load": Piece(measures.percent(load, glyphs.dash)),
        "memory-bar": Gauge(share, Style.MEMORY),
        "memory": Piece(measures.size(memory, glyphs.dash)),
        "processes": Piece(glyphs.dash if processes is None else f"{processes:.0f}"),
    }


def _process_rows(occupant: Occupant, context: Context) -> list[Row]:
    glyphs = context.glyphs
    if not occupant.processes:
        is_unknown = any(use.processes is None for use in occupant.uses)
        text = "its processes are not known" if is_unknown else "no process uses a GPU"
        return [Row({"name": Piece(f"  {glyphs.branch} {text}", Style.FAINT)}, running="name")]
    return [_process_row(process, context) for process in _by_memory(occupant.processes)]


def _by_memory(processes: Sequence[OccupantProcess]) -> list[OccupantProcess]:
    return sorted(processes, key=lambda process: (-(process.memory or 0), process.pid))


def _process_row(process: OccupantProcess, context: Context) -> Row:
    glyphs = context.glyphs
    device = context.devices.get(process.device)
    capacity = device.quantities.get("fb_capacity_bytes") if device else None
    user = f" {glyphs.clean(process.user)}" if process.user else ""
    text = f"  {glyphs.branch} {process.pid}{user} {glyphs.clean(process.command)}"
    cells = _measured(process.utilization, process.memory, capacity, None, glyphs)
    del cells["processes"]
    return Row({**cells, "name": Piece(text), "gpu": Piece(process.device)}, running="name")
