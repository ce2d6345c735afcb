# SPDX-License-Identifier: Apache-2.0
"""Typed access to the fields of a JSON object.

`null` is an absent field, as in Go. `source` is the name of the document in messages. A field of
another type is a DocumentError.
"""

from __future__ import annotations

from cdi_base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar  # noqa: TID251  (never imported when it runs)

    T = TypeVar("T")
    Document = dict[str, object]


class DocumentError(HookError):
    """A field has a value of the wrong type."""

    code = "CDG-R502"


def text_of(parent: Document, key: str, source: str) -> str:
    """Return a text field; an absent one is empty."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DocumentError(f"{source}: {key!r} is not text")
    return value


def number_of(parent: Document, key: str, source: str) -> int | None:
    """Return a field that is a whole number; None if it is absent."""
    value = parent.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise DocumentError(f"{source}: {key!r} is not a whole number")
    return value


def object_of(parent: Document, key: str, source: str) -> Document:
    """Return an object field for reading; an absent one is empty."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DocumentError(f"{source}: {key!r} is not an object")
    return value


def objects_of(parent: Document, key: str, source: str) -> list[Document]:
    """Return a field that is a list of objects; an absent one is empty."""
    return _items(parent, key, source, dict, "objects")


def texts_of(parent: Document, key: str, source: str) -> list[str]:
    """Return a field that is a list of texts; an absent one is empty."""
    return _items(parent, key, source, str, "text")


def numbers_of(parent: Document, key: str, source: str) -> list[int]:
    """Return a field that is a list of whole numbers; an absent one is empty."""
    return _items(parent, key, source, int, "whole numbers")


def object_in(parent: Document, key: str, source: str) -> Document:
    """Return an object field for changing; an absent one is created."""
    if parent.get(key) is None:
        parent[key] = {}
    return object_of(parent, key, source)


def list_in(parent: Document, key: str, source: str) -> list[object]:
    """Return a list field for changing; an absent one is created."""
    value = parent.get(key)
    if value is None:
        value = parent[key] = []
    if not isinstance(value, list):
        raise DocumentError(f"{source}: {key!r} is not a list")
    return value


def _items(parent: Document, key: str, source: str, type_: type[T], plural: str) -> list[T]:
    value = parent.get(key)
    if value is None:
        return []
    # type(): True is an int to isinstance().
    if not isinstance(value, list) or any(type(item) is not type_ for item in value):
        raise DocumentError(f"{source}: {key!r} is not a list of {plural}")
    return list(value)
