# SPDX-License-Identifier: Apache-2.0
"""Reads JSON strictly by RFC 8259, and rejects what readers of JSON treat differently.

An object must not have a key twice, since readers disagree which of the two counts. NaN, the
infinities and numbers too large for a float are rejected. So are numbers of more than 400 digits,
for which Python takes quadratic time, text that is not UTF-8, and anything after the value.
"""

from __future__ import annotations

# `_json` is what `json` wraps; `json` itself costs 6 ms, for its regular expressions.
import _json

from cdi_base.errors import HookError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DIGITS = 400
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = " \t\r\n"
_INFINITIES = frozenset({float("inf"), float("-inf")})


class JSONError(ValueError):
    """The text is not strict JSON. `place` is the line and column, if they are known."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{message} ({place})" if place else message)
        self.message = message
        self.place = place


class DuplicateKeyError(JSONError):
    """An object has a key twice."""


class TooDeepError(JSONError):
    """Objects and lists are nested more deeply than this process can follow."""


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise JSONError(f"a number of more than {MAX_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if number in _INFINITIES:
        raise JSONError(f"the number {shown(digits)} is too large")
    return number


def parse(
    content: bytes | str,
    *,
    integer: Callable[[str], object] = _integer,
    decimal: Callable[[str], object] = _float,
    longest_key: int | None = None,
) -> object:
    """Return the value that a JSON text holds.

    Args:
        content: the text. As bytes, it may begin with a byte order mark.
        integer: converts a whole number; may raise ValueError.
        decimal: converts any other number; may raise ValueError.
        longest_key: the largest number of characters of a key.

    Raises:
        JSONError: the text is not strict JSON.
    """
    text = content if isinstance(content, str) else _decoded(content)
    start = len(text) - len(text.lstrip(_SPACE))
    # The scanner only reads the attributes.
    scan = _json.make_scanner(_Rules(integer, decimal, longest_key))  # type: ignore[arg-type]
    try:
        value, end = scan(text, start)
    except StopIteration as error:
        raise JSONError("Expecting value", place(text, error.value)) from None
    except JSONError:
        raise
    except RecursionError:
        raise TooDeepError("nested too deeply") from None
    except ValueError as error:
        # `json.JSONDecodeError`, where `json` is loaded.
        position = getattr(error, "pos", None)
        message = getattr(error, "msg", None) or str(error)
        raise JSONError(message, "" if position is None else place(text, position)) from None
    except SystemError:
        # Before Python 3.13 the scanner takes its error from `json.decoder` and has none without.
        raise JSONError("a syntax error") from None
    rest = text[end:].lstrip(_SPACE)
    if rest:
        raise JSONError("Extra data", place(text, len(text) - len(rest)))
    return value


def parse_object(content: bytes, name: str, *, longest_key: int | None = None) -> dict[str, object]:
    """Return the JSON object that a text holds.

    Raises:
        HookError: the text is not strict JSON, or not an object; `name` is its name in messages.
    """
    try:
        value = parse(content, longest_key=longest_key)
    except JSONError as error:
        raise HookError(f"{name} is not JSON: {error}", code="CDG-K004") from None
    if not isinstance(value, dict):
        raise HookError(f"{name} is not one JSON object", code="CDG-K004")
    return value


def place(text: str, position: int) -> str:
    """Return the line and column of a position, for a message."""
    line = text.count("\n", 0, position) + 1
    return f"line {line}, column {position - text.rfind(chr(10), 0, position)}"


def _decoded(content: bytes) -> str:
    try:
        # Not "utf-8-sig": Python would import it now.
        return content.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise JSONError(f"not UTF-8 at byte {error.start}") from None


class _Rules:
    """The attributes and methods of a JSONDecoder that the scanner uses."""

    strict = True
    object_hook = None

    def __init__(
        self,
        integer: Callable[[str], object],
        decimal: Callable[[str], object],
        longest_key: int | None,
    ) -> None:
        self.parse_int = integer
        self.parse_float = decimal
        self.memo: dict[str, str] = {}
        self._longest_key = longest_key

    def object_pairs_hook(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise DuplicateKeyError(f"duplicate key {shown(_first_duplicate(pairs))}")
        if self._longest_key is not None and any(len(key) > self._longest_key for key in value):
            raise JSONError(f"a key of more than {self._longest_key} characters")
        return value

    @staticmethod
    def parse_constant(name: str) -> object:
        raise JSONError(f"{name} is not a JSON number")


def _first_duplicate(pairs: list[tuple[str, object]]) -> str:
    # A hostile document may have a million keys: no search for each of them.
    seen = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    raise AssertionError


def _not_json(value: object) -> object:
    raise ValueError(value)


_encoder = _json.make_encoder(
    None, _not_json, _json.encode_basestring_ascii, None, ":", ",", False, False, False
)


def encode(value: object) -> str:
    """Return a value as JSON without spaces, in ASCII.

    Raises:
        ValueError: a number is NaN or infinite, or a value has no form in JSON.
        RecursionError: the value is nested too deeply.
    """
    return "".join(_encoder(value, 0))
