# SPDX-License-Identifier: Apache-2.0
"""The JSON form of the inventory: ``dump`` writes the current format, ``load`` reads every format.

Keys are the fields' names in camelCase, in the fields' order, and default values are omitted, so
that equal inventories give equal text. ``load`` checks every value against the field's type and
names the place of the first wrong value. docs/inventory.md is the compatibility policy.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from cdi_base import strict_json
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import Inventory

FORMAT_VERSION = 2
"""The format that ``dump`` writes; ``load`` rejects a higher one."""

MAX_BYTES = 16 * 1024 * 1024
"""An inventory of a host with 56 MIG devices is 60 KB; anything near this is not one."""


Record = TypeVar("Record")
"""A dataclass of the model, or of an older format."""


class InventoryError(CdiGenError):
    """A text is not an inventory that this version reads."""


def dump(inventory: Inventory) -> str:
    """The inventory as JSON text with a final newline; the same inventory, the same bytes."""
    document = {"formatVersion": FORMAT_VERSION, **_encode(inventory)}
    return json.dumps(document, indent=1) + "\n"


def load(text: str) -> Inventory:
    """Read an inventory of the current or an older format.

    Raises:
        InventoryError: the text is not JSON, has a newer format, or a wrong key or value; the
            message says where.
    """
    if len(text) > MAX_BYTES:
        raise InventoryError(
            f"the inventory is larger than {MAX_BYTES // 2**20} MiB",
            hint="make one with: cdi-gen inventory",
            code="CDG-I001",
        )
    try:
        document = strict_json.parse(text)
    except strict_json.TooDeepError as error:
        message = "the inventory is nested far too deep to be one"
        raise InventoryError(message, code="CDG-I001") from error
    except strict_json.JSONError as error:
        raise InventoryError(
            f"the inventory is not valid JSON: {error}",
            hint="was the file cut short? make it again with: cdi-gen inventory",
            code="CDG-I001",
        ) from error
    if not isinstance(document, dict):
        raise InventoryError("the inventory is not a JSON object", code="CDG-I001")
    version = document.pop("formatVersion", None)
    if type(version) is not int or version < 1:
        raise InventoryError(
            ".formatVersion: not a version number",
            hint="is this an inventory? make one with: cdi-gen inventory",
            code="CDG-I001",
        )
    if version > FORMAT_VERSION:
        raise InventoryError(
            f"the inventory has format version {version}; this cdi-gen reads up to "
            f"{FORMAT_VERSION}",
            hint="read it with the cdi-gen that wrote it, or a newer one",
            code="CDG-I003",
        )
    decoder = _Decoder()
    if version == 1:
        from cdi_gen.inventory.format_1 import InventoryOfFormat1  # noqa: PLC0415 - old files only

        return decoder.record(InventoryOfFormat1, document, "").converted()
    return decoder.record(Inventory, document, "")


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        encoded = {}
        for field in fields(value):
            item = getattr(value, field.name)
            if item != field.default:
                encoded[_camel(field.name)] = _encode(item)
        return encoded
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class _Decoder:
    """Builds dataclasses from plain JSON values, following the fields' types."""

    def __init__(self) -> None:
        # typing's machinery is needed for reading only, and costs start-up time.
        import typing  # noqa: PLC0415

        self._typing = typing

    def record(self, cls: type[Record], document: Any, where: str) -> Record:
        if not isinstance(document, dict):
            raise InventoryError(f"{where or '.'}: expected an object", code="CDG-I002")
        hints = self._typing.get_type_hints(cls)
        by_key = {_camel(field.name): field for field in fields(cls)}  # type: ignore[arg-type]
        for key in document:
            if key not in by_key:
                raise InventoryError(f"{where}.{key}: unknown field", code="CDG-I002")
        values = {}
        for key, field in by_key.items():
            if key in document:
                values[field.name] = self.value(hints[field.name], document[key], f"{where}.{key}")
            elif field.default is MISSING:
                raise InventoryError(f"{where}.{key}: missing", code="CDG-I002")
        return cls(**values)

    def value(self, hint: Any, value: Any, where: str) -> Any:
        hint = getattr(hint, "__supertype__", hint)
        arguments = self._typing.get_args(hint)
        if type(None) in arguments:
            if value is None:
                return None
            (inner,) = (argument for argument in arguments if argument is not type(None))
            return self.value(inner, value, where)
        if self._typing.get_origin(hint) is tuple:
            if not isinstance(value, list):
                raise InventoryError(f"{where}: expected a list", code="CDG-I002")
            return tuple(
                self.value(arguments[0], item, f"{where}[{position}]")
                for position, item in enumerate(value)
            )
        if isinstance(hint, type) and is_dataclass(hint):
            return self.record(hint, value, where)
        if type(value) is not hint:
            raise InventoryError(f"{where}: expected {_NOUNS[hint]}", code="CDG-I002")
        if hint is str and not value.isprintable():
            raise InventoryError(f"{where}: contains a control character", code="CDG-I002")
        return value


_NOUNS = {str: "a string", int: "an integer", bool: "true or false"}
