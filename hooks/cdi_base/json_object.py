# SPDX-License-Identifier: Apache-2.0
"""A JSON document's fields, each of the type that it must have.

`null` is an absent field, as Go reads it. `where` is what people call the document. All raise
DocumentError.
"""

from __future__ import annotations

from cdi_base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar  # noqa: TID251  (never imported when it runs)

    T = TypeVar("T")
    Document = dict[str, object]


class DocumentError(HookError):
    """A field is not of the type that it must have."""

    code = "CDG-R502"


def text_of(parent: Document, key: str, where: str) -> str:
    """The text there; an absent one is empty."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DocumentError(f"{where}: {key!r} is not text")
    return value


def number_of(parent: Document, key: str, where: str) -> int | None:
    """The whole number there."""
    value = parent.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise DocumentError(f"{where}: {key!r} is not a whole number")
    return value


def object_of(parent: Document, key: str, where: str) -> Document:
    """The object there, to be read; an absent one is empty."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DocumentError(f"{where}: {key!r} is not an object")
    return value


def objects_of(parent: Document, key: str, where: str) -> list[Document]:
    """The objects of a list."""
    return _items(parent, key, where, dict, "objects")


def texts_of(parent: Document, key: str, where: str) -> list[str]:
    """The texts of a list."""
    return _items(parent, key, where, str, "text")


def numbers_of(parent: Document, key: str, where: str) -> list[int]:
    """The whole numbers of a list."""
    return _items(parent, key, where, int, "whole numbers")


def object_in(parent: Document, key: str, where: str) -> Document:
    """The object there, to be changed; it is made where there is none."""
    if parent.get(key) is None:
        parent[key] = {}
    return object_of(parent, key, where)


def list_in(parent: Document, key: str, where: str) -> list[object]:
    """The list there, to be changed; it is made where there is none."""
    value = parent.get(key)
    if value is None:
        value = parent[key] = []
    if not isinstance(value, list):
        raise DocumentError(f"{where}: {key!r} is not a list")
    return value


def _items(parent: Document, key: str, where: str, type_: type[T], what: str) -> list[T]:
    value = parent.get(key)
    if value is None:
        return []
    # type(): True is an int to isinstance().
    if not isinstance(value, list) or any(type(item) is not type_ for item in value):
        raise DocumentError(f"{where}: {key!r} is not a list of {what}")
    return list(value)
