# SPDX-License-Identifier: Apache-2.0
"""What the user has chosen to see, and what each key changes about it; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from cdi_gen.top.occupants import Occupant

INTERVALS = (0.2, 3600.0)
"""The shortest and the longest seconds between passes."""


class Order(Enum):
    """The orders of containers."""

    UTILIZATION = "utilization"
    MEMORY = "memory"
    GPU = "gpu"
    NAME = "name"
    ENGINE = "engine"
    PROCESSES = "processes"


class Prompt(Enum):
    """What the user is typing."""

    FILTER = "Filter"
    INTERVAL = "Seconds between passes"


Change = Callable[["View"], "View"]

_DESCENDING = frozenset({Order.UTILIZATION, Order.MEMORY, Order.PROCESSES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pane:
    """A table of which a part is seen."""

    selected: int = 0
    first: int = 0
    """The first row that is seen."""

    def moved(self, rows: int, height: int, by: int = 0) -> Pane:
        """Return the pane with the selection so many rows further, in a table of so many rows."""
        selected = min(max(self.selected + by, 0), max(rows - 1, 0))
        first = min(self.first, selected, max(rows - height, 0))
        return Pane(selected=selected, first=max(first, selected - max(height, 1) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state of the screen."""

    order: Order = Order.UTILIZATION
    is_inverted: bool = False
    words: str = ""
    """Of the filter: a container has all of them."""
    is_paused: bool = False
    interval: float = 1.0
    expanded: frozenset[tuple[str, ...]] = frozenset()
    """The keys of the containers whose processes are shown."""
    is_all_expanded: bool = False
    is_one_row_each: bool = False
    """One row for a container, instead of one for each of its devices."""
    has_gpus: bool = True
    is_on_gpus: bool = False
    """Whether the keys move the selection in the table of GPUs."""
    is_help: bool = False
    help_first: int = 0
    prompt: Prompt | None = None
    typed: str = ""
    gpus: Pane = Pane()
    containers: Pane = Pane()
    has_quit: bool = False

    def is_expanded(self, occupant: Occupant) -> bool:
        """Whether the processes of a container are shown."""
        return self.is_all_expanded or occupant.key in self.expanded

    def matches(self, occupant: Occupant) -> bool:
        """Whether the filter lets a container through."""
        fields = (occupant.engine, occupant.name, occupant.id, occupant.image, occupant.pod)
        commands = (process.command for process in occupant.processes)
        text = "\n".join((*fields, occupant.owner, *commands)).casefold()
        return all(word in text for word in self._filter().casefold().split())

    def _filter(self) -> str:
        return self.typed if self.prompt is Prompt.FILTER else self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a key refers to: what was on the screen when the key was pressed."""

    gpu_rows: int = 0
    gpu_height: int = 0
    container_rows: int = 0
    container_height: int = 0
    selected: tuple[str, ...] | None = None
    """The key of the container of the selected row."""
    help_rows: int = 0


def pressed(view: View, key: str, shown: Shown) -> View:
    """Return the view after a key, which has the name of `cdi_gen.top.keys`, or is a character."""
    if view.prompt is not None:
        return _typed(view, key, view.prompt)
    if view.is_help:
        return _in_help(view, key, shown)
    moved = _moved(view, key, shown)
    if moved is not None:
        return moved
    change = _CHANGES.get(key)
    if change is not None:
        return change(view)
    if key in _EXPANDING and shown.selected is not None and not view.is_on_gpus:
        is_in = shown.selected in view.expanded
        if key in {"right", "+"} or (key in {"enter", " "} and not is_in):
            return replace(view, expanded=view.expanded | {shown.selected})
        return replace(view, expanded=view.expanded - {shown.selected}, is_all_expanded=False)
    return view


_EXPANDING = frozenset({"enter", " ", "right", "left", "+", "-"})


def _typed(view: View, key: str, prompt: Prompt) -> View:
    """Return the view after a key in a line of text."""
    if key == "enter":
        return replace(_entered(view, prompt), prompt=None, typed="")
    if key == "escape":
        if prompt is Prompt.FILTER:
            view = replace(view, words="")
        return replace(view, prompt=None, typed="")
    if key == "backspace":
        return replace(view, typed=view.typed[:-1])
    if key == "ctrl-u":
        return replace(view, typed="")
    if len(key) == 1 and key.isprintable():
        return replace(view, typed=(view.typed + key)[:200])
    return view


def _entered(view: View, prompt: Prompt) -> View:
    if prompt is Prompt.FILTER:
        return replace(view, words=view.typed)
    try:
        seconds = float(view.typed.replace(",", "."))
    except ValueError:
        return view
    least, most = INTERVALS
    return replace(view, interval=min(max(seconds, least), most)) if seconds > 0 else view


def _in_help(view: View, key: str, shown: Shown) -> View:
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -10, "page-down": 10, " ": 10}
    if key in steps:
        last = max(0, shown.help_rows - 1)
        return replace(view, help_first=min(max(view.help_first + steps[key], 0), last))
    return replace(view, is_help=False, help_first=0)


def _moved(view: View, key: str, shown: Shown) -> View | None:
    """Return the view after a key that moves the selection; None if it is another key."""
    if view.is_on_gpus:
        pane, rows, height = view.gpus, shown.gpu_rows, shown.gpu_height
    else:
        pane, rows, height = view.containers, shown.container_rows, shown.container_height
    page = max(1, height - 1)
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -page, "page-down": page}
    steps |= {"home": -rows, "end": rows}
    if key not in steps:
        return None
    pane = pane.moved(rows, height, steps[key])
    return replace(view, gpus=pane) if view.is_on_gpus else replace(view, containers=pane)


def _next_order(view: View, by: int) -> View:
    orders = [*Order]
    return _sorted_by(orders[(orders.index(view.order) + by) % len(orders)])(view)


def _sorted_by(order: Order) -> Change:
    return lambda view: replace(view, order=order, is_inverted=False)


_CHANGES: dict[str, Change] = {
    **dict.fromkeys(("q", "f10"), lambda view: replace(view, has_quit=True)),
    **dict.fromkeys(("?", "h", "f1"), lambda view: replace(view, is_help=True)),
    **dict.fromkeys(
        ("/", "\\", "f3", "f4"),
        lambda view: replace(view, prompt=Prompt.FILTER, typed=view.words),
    ),
    **dict.fromkeys(("d", "s"), lambda view: replace(view, prompt=Prompt.INTERVAL, typed="")),
    **dict.fromkeys(("z", "Z", "p"), lambda view: replace(view, is_paused=not view.is_paused)),
    **dict.fromkeys((">", ".", "f6"), lambda view: _next_order(view, 1)),
    **dict.fromkeys(("<", ","), lambda view: _next_order(view, -1)),
    **dict.fromkeys(
        ("c", "f5"), lambda view: replace(view, is_one_row_each=not view.is_one_row_each)
    ),
    "I": lambda view: replace(view, is_inverted=not view.is_inverted),
    "P": _sorted_by(Order.UTILIZATION),
    "M": _sorted_by(Order.MEMORY),
    "G": _sorted_by(Order.GPU),
    "N": _sorted_by(Order.NAME),
    "*": lambda view: replace(view, is_all_expanded=not view.is_all_expanded, expanded=frozenset()),
    "g": lambda view: replace(view, has_gpus=not view.has_gpus, is_on_gpus=False),
    "tab": lambda view: replace(view, is_on_gpus=view.has_gpus and not view.is_on_gpus),
    "escape": lambda view: replace(view, words=""),
}


def is_descending(view: View) -> bool:
    """Whether the largest value is at the top."""
    return (view.order in _DESCENDING) is not view.is_inverted
