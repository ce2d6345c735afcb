# SPDX-License-Identifier: Apache-2.0
"""The result of every search of the host: values, and records of what is missing or unusable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cdi_gen.inventory import Ignored, Missing, Record, StaleNode, UnusableDevice

Values = TypeVar("Values")


@dataclass(frozen=True, slots=True)
class SearchResult(Generic[Values]):
    """The result of one search. A later search neither changes it nor depends on it."""

    values: Values
    records: tuple[Record, ...] = ()
    """What is missing, stale, unusable or ignored, in the order of the search."""


def by_kind(records: Iterable[Record]) -> dict[str, Any]:
    """Return the records as fields of the inventory, each once: devices may share a node."""
    distinct = tuple(dict.fromkeys(records))
    return {
        "missing": tuple(record for record in distinct if isinstance(record, Missing)),
        "stale_nodes": tuple(record for record in distinct if isinstance(record, StaleNode)),
        "unusable_devices": tuple(
            record for record in distinct if isinstance(record, UnusableDevice)
        ),
        "ignored": tuple(record for record in distinct if isinstance(record, Ignored)),
    }
