# SPDX-License-Identifier: Apache-2.0
"""What every search of the host returns: the values, and what is odd about the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cdi_gen.inventory import Ignored, Missing, StaleNode, UnusableDevice

Values = TypeVar("Values")

Record = Missing | StaleNode | UnusableDevice | Ignored


@dataclass(frozen=True, slots=True)
class SearchResult(Generic[Values]):
    """The result of one search. A later search neither changes it nor depends on it."""

    values: Values
    records: tuple[Record, ...] = ()
    """What is missing, stale, skipped and left out, in the order in which it was seen."""


def by_kind(records: Iterable[Record]) -> dict[str, Any]:
    """The records as fields of the inventory, each once: several devices may share a node."""
    distinct = tuple(dict.fromkeys(records))
    return {
        "missing": tuple(record for record in distinct if isinstance(record, Missing)),
        "stale_nodes": tuple(record for record in distinct if isinstance(record, StaleNode)),
        "unusable_devices": tuple(
            record for record in distinct if isinstance(record, UnusableDevice)
        ),
        "ignored": tuple(record for record in distinct if isinstance(record, Ignored)),
    }
