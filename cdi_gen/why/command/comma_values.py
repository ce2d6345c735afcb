# SPDX-License-Identifier: Apache-2.0
"""Splits a value at commas as Go's ``encoding/csv`` does, which pflag and Docker use."""

from __future__ import annotations


class CommaError(ValueError):
    """A quotation mark is where Go's reader does not accept one."""


def split(text: str) -> tuple[str, ...]:
    """The fields of one line: ``"device=0,2",capabilities=gpu`` are two.

    Raises:
        CommaError: a quotation mark within an unquoted field, or a quoted field that does not end.
    """
    fields = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field = text[position:end]
            if '"' in field:
                raise CommaError('bare " in non-quoted field')
            position = end
        fields.append(field)
        if position == len(text):
            return tuple(fields)
        position += 1


def _quoted(text: str, position: int) -> tuple[str, int]:
    """The field that begins after a quotation mark, and the index of the comma or the end."""
    field = ""
    while True:
        end = text.find('"', position)
        if end < 0:
            raise CommaError('extraneous or missing " in quoted-field')
        field += text[position:end]
        following = text[end + 1 : end + 2]
        if following == '"':
            field += '"'
            position = end + 2
        elif following in ("", ","):
            return field, end + 1
        else:
            raise CommaError('extraneous or missing " in quoted-field')
