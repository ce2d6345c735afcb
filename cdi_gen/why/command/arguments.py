# SPDX-License-Identifier: Apache-2.0
"""Reads the options of a command line as its program does: as pflag, or as Go's own ``flag``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdi_gen.why.command import comma_values
from cdi_gen.why.command.option_table import BOOLEAN, LIST, OPTIONAL, OptionTable

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})


class Given(NamedTuple):
    """An option as it is given."""

    name: str
    value: str
    start: int
    """The index of its first word."""
    end: int
    """The index after its last word."""
    is_alone: bool = True
    """Whether its words are of no other option, as those of ``-it`` are."""


class Arguments(NamedTuple):
    """A command line that is read."""

    given: tuple[Given, ...]
    positional: tuple[str, ...]
    rest: int
    """The index of the first positional word; the number of words if there is none."""
    unknown: tuple[str, ...] = ()
    """Options that the table does not have."""
    fault: str = ""
    """Why the program rejects the command line, in its own words."""

    def all(self, name: str) -> tuple[str, ...]:
        """The values of an option, in order."""
        return tuple(option.value for option in self.given if option.name == name)

    def last(self, name: str, default: str = "") -> str:
        """The last value of an option, which counts for an option that has one value."""
        values = self.all(name)
        return values[-1] if values else default

    def is_on(self, name: str) -> bool:
        """Whether a boolean option is given and not false."""
        return self.last(name) in TRUE


def parse(
    words: Sequence[str],
    table: OptionTable,
    *,
    interspersed: bool,
    go_flags: bool = False,
    start: int = 0,
) -> Arguments:
    """Read the options in words.

    Args:
        words: of the command line.
        table: the options of the command.
        interspersed: whether options may follow positional words.
        go_flags: whether one dash means the same as two, and letters are not joined.
        start: the index of the first word to read.
    """
    return _Reader(words, table, interspersed=interspersed, go_flags=go_flags).read(start)


class _Reader:
    def __init__(
        self, words: Sequence[str], table: OptionTable, *, interspersed: bool, go_flags: bool
    ) -> None:
        self._words = words
        self._table = table
        self._interspersed = interspersed
        self._go_flags = go_flags
        self._given: list[Given] = []
        self._positional: list[int] = []
        self._unknown: list[str] = []
        self._fault = ""

    def read(self, start: int) -> Arguments:
        words = self._words
        index = start
        while index < len(words):
            word = words[index]
            if word == "--":
                self._positional += range(index + 1, len(words))
                break
            if len(word) < 2 or word[0] != "-":
                self._positional.append(index)
                if not self._interspersed:
                    self._positional += range(index + 1, len(words))
                    break
                index += 1
            elif word.startswith("--") or self._go_flags:
                index = self._long(index)
            else:
                index = self._letters(index)
        return Arguments(
            tuple(self._given),
            tuple(words[position] for position in self._positional),
            self._positional[0] if self._positional else len(words),
            tuple(self._unknown),
            self._fault,
        )

    def _long(self, index: int) -> int:
        """Read ``--name``, ``--name=value`` or ``--name value``; return the next index."""
        text, equals, value = self._words[index].lstrip("-").partition("=")
        name = self._table.names.get(text)
        if name is None or (len(text) == 1 and not self._go_flags):
            self._unknown.append(self._words[index].partition("=")[0])
            return index + 1
        if equals:
            self._add(name, value, index, index + 1)
            return index + 1
        return self._with_value(name, index, self._words[index])

    def _letters(self, index: int) -> int:
        """Read ``-it``, ``-eNAME=value``, ``-e=NAME`` or ``-e NAME``; return the next index."""
        letters = self._words[index][1:]
        is_alone = len(letters) == 1
        for position, letter in enumerate(letters):
            name = self._table.names.get(letter)
            if name is None or name == letter:
                self._unknown.append(f"-{letter}")
                return index + 1
            rest = letters[position + 1 :]
            if self._table.kinds[name] in (BOOLEAN, OPTIONAL):
                if rest.startswith("="):
                    self._add(name, rest[1:], index, index + 1, is_alone=is_alone)
                    return index + 1
                self._add(name, "true", index, index + 1, is_alone=is_alone)
            elif rest:
                value = rest.removeprefix("=")
                self._add(name, value, index, index + 1, is_alone=position == 0)
                return index + 1
            else:
                return self._with_value(name, index, f"-{letter}", is_alone=position == 0)
        return index + 1

    def _with_value(self, name: str, index: int, written: str, *, is_alone: bool = True) -> int:
        if self._table.kinds[name] in (BOOLEAN, OPTIONAL):
            self._add(name, "true", index, index + 1, is_alone=is_alone)
            return index + 1
        if index + 1 == len(self._words):
            self._fault = self._fault or f"flag needs an argument: {written}"
            return index + 1
        self._add(name, self._words[index + 1], index, index + 2, is_alone=is_alone)
        return index + 2

    def _add(self, name: str, value: str, start: int, end: int, *, is_alone: bool = True) -> None:
        if self._table.kinds[name] != LIST:
            self._given.append(Given(name, value, start, end, is_alone))
            return
        try:
            values = comma_values.split(value)
        except comma_values.CommaError as error:
            fault = f'invalid argument "{value}" for "--{name}" flag: {error}'
            self._fault = self._fault or fault
            return
        for part in values:
            self._given.append(Given(name, part, start, end, is_alone and len(values) == 1))
