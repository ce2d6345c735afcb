# SPDX-License-Identifier: Apache-2.0
"""Reads a file that describes containers, and access to the values of YAML documents.

The file may be anybody's: values are looked at by type, and only as many as a person would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cdi_base import files
from cdi_base.errors import shown
from cdi_gen.cdi import yamltext
from cdi_gen.errors import CdiGenError

MAX_BYTES = 1 << 20
MAX_ITEMS = 1000
_SEPARATOR = re.compile(r"^---(?=\s|$)[^\n]*", re.MULTILINE)

Table = dict[Any, Any]


class DescriptionError(CdiGenError):
    """The file cannot be read, or is of no known kind."""

    code = "CDG-Y103"


def text_of(path: str) -> str:
    """The text of a file.

    Raises:
        DescriptionError: it is no regular file, cannot be read, or is larger than 1 MiB.
    """
    try:
        content = files.read(path, MAX_BYTES, follow=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DescriptionError(f"{shown(path)[1:-1]}: {reason}", subject=path) from error
    return content.decode("utf-8", "replace").removeprefix("\ufeff")


def yaml_documents(text: str, path: str) -> list[Table]:
    """The documents of a YAML file, or of a JSON file, that are mappings.

    Raises:
        DescriptionError: the file is no YAML.
    """
    documents: list[Table] = []
    for part in _SEPARATOR.split(text):
        if not part.strip():
            continue
        try:
            document, _ = yamltext.parse(part)
        except yamltext.YamlTextError as error:
            place = f", {error.place}" if error.place else ""
            raise DescriptionError(
                f"{shown(path)[1:-1]} is no YAML{place}: {error.message}", subject=path
            ) from error
        if isinstance(document, dict):
            documents.append(document)
    return documents


def table(value: object, *keys: str) -> Table:
    """The mapping below keys; an empty one if there is none. Merge keys (``<<``) count."""
    for key in keys:
        value = _merged(value).get(key) if isinstance(value, dict) else None
    return _merged(value) if isinstance(value, dict) else {}


def _merged(value: Table) -> Table:
    merge = value.get("<<")
    if merge is None:
        return value
    result: Table = {}
    for other in reversed(merge[:MAX_ITEMS] if isinstance(merge, list) else [merge]):
        if isinstance(other, dict):
            result |= other
    return {**result, **{key: item for key, item in value.items() if key != "<<"}}


def items(value: object) -> list[Any]:
    """The items of a list; none if it is no list."""
    return value[:MAX_ITEMS] if isinstance(value, list) else []


def text(value: object) -> str:
    """A scalar as text, as YAML's readers of Go see it; empty for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else ""


def texts(value: object) -> tuple[str, ...]:
    """The scalars of a list, or a single one."""
    if isinstance(value, list):
        return tuple(text(item) for item in value[:MAX_ITEMS])
    return (text(value),) if text(value) else ()


def pairs(value: object) -> Iterator[tuple[str, str | None]]:
    """The names and values of a mapping, or of a list of ``NAME=value``; None without a value."""
    if isinstance(value, dict):
        for name, item in [*value.items()][:MAX_ITEMS]:
            yield text(name), None if item is None else text(item)
        return
    for entry in texts(value):
        name, equals, rest = entry.partition("=")
        yield name, rest if equals else None
