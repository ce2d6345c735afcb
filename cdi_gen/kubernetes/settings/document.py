# SPDX-License-Identifier: Apache-2.0
"""Typed access to a parsed config file: each value is checked where it is taken.

A `Table` remembers which of its keys were taken, so that the others can be reported. As in NVIDIA's
plugin a key may be written in other upper and lower case, ``timeslicing``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

from cdi_gen.errors import CdiGenError

Word = TypeVar("Word", bound=str)


class ConfigFileError(CdiGenError):
    """A config file has a value that the device plugin cannot use."""

    code = "CDG-N002"


class Table:
    """A mapping of the config file, with its path in the file for messages."""

    def __init__(self, value: object, path: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise ConfigFileError(f"{path or 'the config file'} must be a mapping", subject=path)
        self._values = cast("dict[object, object]", value)
        self._unused = dict.fromkeys(self._values)
        self._keys = {str(key).casefold(): key for key in self._values}
        self.known: list[str] = []
        """The keys that were asked for, whether the table has them or not."""
        self.path = path

    def __bool__(self) -> bool:
        return bool(self._values)

    def has(self, key: str) -> bool:
        """Whether the table has a key, whatever its value is."""
        return key.casefold() in self._keys

    def place(self, key: str) -> str:
        """Return the path of a key in the file: ``flags.plugin.deviceIDStrategy``."""
        return f"{self.path}.{key}" if self.path else key

    def unused(self) -> list[str]:
        """Return the paths of the keys that were not taken."""
        return [self.place(str(key)) for key in self._unused]

    def value(self, key: str) -> object:
        """Take a value of any type; None if the key is missing or null."""
        self.known.append(key)
        written = key if key in self._values else self._keys.get(key.casefold())
        self._unused.pop(written, None)
        return self._values.get(written)

    def table(self, key: str) -> Table:
        """Take a mapping; it is empty if the key is missing."""
        return Table(self.value(key), self.place(key))

    def tables(self, key: str) -> list[Table]:
        """Take a list of mappings."""
        return [
            Table(item, f"{self.place(key)}[{number}]")
            for number, item in enumerate(self._list(key))
        ]

    def boolean(self, key: str) -> bool | None:
        """Take ``true`` or ``false``."""
        value = self.value(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.fault(key, "must be true or false")

    def integer(self, key: str) -> int | None:
        """Take an integer."""
        value = self.value(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self.fault(key, "must be a number")

    def text(self, key: str) -> str | None:
        """Take a text. A number or a boolean is not one: YAML needs quotes there."""
        value = self.value(key)
        if value is None or isinstance(value, str):
            return value
        raise self.fault(key, "must be a text; put it in quotes")

    def word(self, key: str, words: Sequence[Word]) -> Word | None:
        """Take one of these words."""
        value = self.text(key)
        if value is None or value in words:
            return cast("Word | None", value)
        raise self.fault(key, f"is {value!r}; it must be one of {', '.join(words)}")

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Take a list of texts, or one text with commas."""
        value = self.value(key)
        if value is None:
            return None
        if isinstance(value, str):
            return tuple(part for text in value.split(",") if (part := text.strip()))
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise self.fault(key, "must be a list of texts")

    def integers(self, key: str) -> tuple[int, ...] | None:
        """Take a list of integers."""
        value = self.value(key)
        if value is None:
            return None
        if isinstance(value, list) and all(type(item) is int for item in value):
            return tuple(value)
        raise self.fault(key, "must be a list of numbers")

    def fault(self, key: str, what: str) -> ConfigFileError:
        """Return the error about the value of a key."""
        return ConfigFileError(f"{self.place(key)} {what}", subject=self.place(key))

    def _list(self, key: str) -> Iterator[object]:
        value = self.value(key)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.fault(key, "must be a list")
        yield from value
