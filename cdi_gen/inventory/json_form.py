# SPDX-License-Identifier: Apache-2.0
"""The JSON form of the inventory: ``dump`` writes the current format, ``load`` reads every format.

Keys are the fields' names in camelCase, in the fields' order, and default values are omitted, so
that equal inventories give equal text. ``load`` checks every value against the field's type; its
error names the location of the first wrong value. docs/inventory.md has the compatibility policy.
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
"""Limit of the text that ``load`` reads. An inventory of a host with 56 MIG devices has 60 KB."""


Record = TypeVar("Record")
"""A dataclass of the model, or of an older format."""


class InventoryError(CdiGenError):
    """The text is not an inventory that this version can read."""


def dump(inventory: Inventory) -> str:
    """Return the inventory as JSON text with a final newline; equal inventories give equal text."""
    document = {"formatVersion": FORMAT_VERSION, **_encode(inventory)}
    return json.dumps(document, indent=1) + "\n"


def load(text: str) -> Inventory:
    """Return the inventory of a JSON text in the current or an older format.

    Raises:
        InventoryError: the text is not JSON, has a newer format, or a wrong key or value; the
            message says where.
    """
    if len(text) > MAX_BYTES:
        raise InventoryError(
            f"the inventory is larger than {MAX_BYTES // 2**20} MiB",
            hint="create an inventory with: cdi-gen inventory",
            code="CDG-I001",
        )
    try:
        document = strict_json.parse(text)
    except strict_json.TooDeepError as error:
        message = "the inventory is nested too deep"
        raise InventoryError(message, code="CDG-I001") from error
    except strict_json.JSONError as error:
        raise InventoryError(
            f"the inventory is not valid JSON: {error}",
            hint="the file is perhaps truncated; create it again with: cdi-gen inventory",
            code="CDG-I001",
        ) from error
    if not isinstance(document, dict):
        raise InventoryError("the inventory is not a JSON object", code="CDG-I001")
    version = document.pop("formatVersion", None)
    if type(version) is not int or version < 1:
        raise InventoryError(
            ".formatVersion: not a version number",
            hint="perhaps the file is not an inventory; create one with: cdi-gen inventory",
            code="CDG-I001",
        )
    if version > FORMAT_VERSION:
        raise InventoryError(
            f"the inventory has format version {version}; this cdi-gen reads up to "
            f"{FORMAT_VERSION}",
            hint="use the cdi-gen that wrote the inventory, or a newer cdi-gen",
            code="CDG-I003",
        )
    decoder = _Decoder()
    if version == 1:
        from cdi_gen.inventory.format_1 import InventoryOfFormat1  # noqa: PLC0415 - old files only

        return decoder.record(InventoryOfFormat1, document, "").converted()
    return decoder.record(Inventory, document, "")


def encode(record: object) -> dict[str, Any]:
    """Return a record of this package as a JSON object; default values are omitted."""
    document: dict[str, Any] = _encode(record)
    return document


def decode(record_type: type[Record], document: object) -> Record:
    """Return the record of a JSON object that `encode` returned.

    Raises:
        InventoryError: a key or a value is wrong; the message says where.
    """
    return _Decoder().record(record_type, document, "")


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
    """Builds dataclasses from JSON values according to the types of the fields."""

    def __init__(self) -> None:
        # Only `load` needs typing, and its import costs start-up time.
        import typing  # noqa: PLC0415

        self._typing = typing

    def record(self, cls: type[Record], document: Any, location: str) -> Record:
        if not isinstance(document, dict):
            raise InventoryError(f"{location or '.'}: expected an object", code="CDG-I002")
        record_fields = _FIELDS.get(cls)
        if record_fields is None:
            hints = self._typing.get_type_hints(cls)
            record_fields = _FIELDS[cls] = {
                _camel(field.name): (field.name, hints[field.name], field.default is MISSING)
                for field in fields(cls)  # type: ignore[arg-type]
            }
        for key in document:
            if key not in record_fields:
                raise InventoryError(f"{location}.{key}: unknown field", code="CDG-I002")
        values = {}
        for key, (name, hint, is_required) in record_fields.items():
            if key in document:
                values[name] = self.value(hint, document[key], f"{location}.{key}")
            elif is_required:
                raise InventoryError(f"{location}.{key}: missing", code="CDG-I002")
        return cls(**values)

    def value(self, hint: Any, value: Any, location: str) -> Any:
        hint = getattr(hint, "__supertype__", hint)
        arguments = self._typing.get_args(hint)
        if type(None) in arguments:
            if value is None:
                return None
            (inner,) = (argument for argument in arguments if argument is not type(None))
            return self.value(inner, value, location)
        if self._typing.get_origin(hint) is tuple:
            if not isinstance(value, list):
                raise InventoryError(f"{location}: expected a list", code="CDG-I002")
            return tuple(
                self.value(arguments[0], item, f"{location}[{position}]")
                for position, item in enumerate(value)
            )
        if isinstance(hint, type) and is_dataclass(hint):
            return self.record(hint, value, location)
        if type(value) is not hint:
            raise InventoryError(f"{location}: expected {_NOUNS[hint]}", code="CDG-I002")
        if hint is str and not value.isprintable():
            raise InventoryError(f"{location}: contains a control character", code="CDG-I002")
        return value


_FIELDS: dict[type, dict[str, tuple[str, Any, bool]]] = {}
"""For each type of record: key, name of the field, its type, and whether it is required. A fleet's
thousand inventories have a hundred records each."""

_NOUNS = {str: "a string", int: "an integer", bool: "true or false"}
