# SPDX-License-Identifier: Apache-2.0
"""The facts of a host that the device plugin works with, and their JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cdi_gen.inventory import Inventory
from cdi_gen.inventory.json_form import decode, encode
from cdi_gen.inventory.properties import Properties


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Inventory and properties of the host, read at about the same time."""

    inventory: Inventory
    properties: Properties = Properties()

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"inventory": encode(self.inventory), "properties": encode(self.properties)}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Facts:
        """Return the facts of a JSON form."""
        return cls(
            inventory=decode(Inventory, document["inventory"]),
            properties=decode(Properties, document["properties"]),
        )
