# SPDX-License-Identifier: Apache-2.0
"""The tables of ``docs/metrics.md`` are made from the catalogue and from the families."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest

from cdi_gen.metrics.catalogue import NEW, OLD, Field, absent_fields, device_labels, fields
from cdi_gen.metrics.families import families
from cdi_gen.metrics.own.families import families as own_families
from cdi_gen.metrics.own.model import DevicePluginState, DoctorState, OwnState, SpecState
from tests.host.looking import REPOSITORY
from tests.unit.metrics import snapshots
from tests.unit.metrics.series import ALWAYS, OF_CONTAINER, OF_HOST, OF_USE, OF_XID, coefficients

PAGE = REPOSITORY / "docs/metrics.md"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [[*head], ["---"] * len([*head]), *([*row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n".replace("--- |", "---|") for cells in lines)


def _name(field: Field, set_name: str) -> str:
    name = field.names.get(set_name)
    if name is None:
        return "-"
    mark = "" if name.is_confirmed else " (not confirmed)"
    return f"`{name.name}` {name.type}, {name.unit}{mark}"


def field_table() -> str:
    """The fields, under both names."""
    rows = []
    for field in fields():
        old, new = _name(field, OLD), _name(field, NEW)
        use = "default" if field.default else "shown" if field.is_shown else "on request"
        if field.default == {NEW}:
            use = "default (new), shown (old)"
        rows.append(
            (
                old,
                "same" if new == old else new,
                f"{use}, MIG" if field.mig else use,
                field.help.rstrip("."),
                field.nvml,
            )
        )
    return table(("up to 4.8", "from 4.9", "use", "meaning", "source"), rows)


def label_table() -> str:
    """The fields that can be labels."""
    rows = [
        (
            f"`{label.names[OLD]}`",
            f"`{label.names[NEW]}`" if label.names[NEW] != label.names[OLD] else "same",
            f"{label.nvml}{'; always' if label.is_default else ''}",
        )
        for label in device_labels()
    ]
    return table(("up to 4.8", "from 4.9", "source"), rows)


def absent_table() -> str:
    """The fields that NVML does not give."""
    rows = [
        (", ".join(f"`{name}`" for name in field.names), field.reason) for field in absent_fields()
    ]
    return table(("field", "why"), rows)


def family_table() -> str:
    """The families of cdi-gen that come from a snapshot."""
    rows = [
        (f"`{family.name}`", family.type, family.help)
        for family in families(snapshots.idle())
        if family.name.startswith("cdi_gen")
    ]
    return table(("name", "type", "meaning"), rows)


def own_table() -> str:
    """The families of cdi-gen that come from examinations."""
    state = OwnState(specs=SpecState(), doctor=DoctorState(), device_plugin=DevicePluginState())
    rows = [(f"`{family.name}`", family.type, family.help) for family in own_families(state, 0)]
    return table(("name", "type", "meaning"), rows)


def series_text() -> str:
    """The formula of the number of series."""
    of_sets = {
        "`--names old` or `new`": coefficients((OLD,)),
        "`--names both`": coefficients((OLD, NEW)),
    }
    assert coefficients((OLD,)) == coefficients((NEW,))
    formula = (
        f"    a * GPUs + b * GPU instances + c * NVLinks + {OF_CONTAINER} * containers\n"
        f"      + {OF_USE} * (devices of all containers) + {OF_HOST} * (devices that the host uses)\n"
        f"      + {OF_XID} * (numbers of Xids of all devices) + {ALWAYS}\n\n"
    )
    rows = [
        (name, str(numbers.gpu), str(numbers.instance), str(numbers.link))
        for name, numbers in of_sets.items()
    ]
    return formula + table(("", "a", "b", "c"), rows)


PARTS: dict[str, Callable[[], str]] = {
    "fields": field_table,
    "labels": label_table,
    "absent": absent_table,
    "families": family_table,
    "examinations": own_table,
    "series": series_text,
}


@pytest.mark.parametrize("part", PARTS)
def test_the_page_has_the_current_tables(part: str, request: pytest.FixtureRequest) -> None:
    """``make golden`` writes them."""
    pattern = re.compile(rf"(<!-- {part}: [^\n]*-->\n).*(<!-- end of {part} -->\n)", re.DOTALL)
    text = PAGE.read_text(encoding="utf-8")
    expected, count = pattern.subn(lambda match: match[1] + PARTS[part]() + match[2], text)
    assert count == 1
    if request.config.getoption("--update-golden"):
        PAGE.write_text(expected, encoding="utf-8")
    else:
        assert text == expected, f"the {part} are not current; run: make golden"
