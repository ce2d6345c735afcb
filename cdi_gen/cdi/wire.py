# SPDX-License-Identifier: Apache-2.0
"""Reads a spec from JSON or YAML text strictly, and writes it readably.

JSON is written with one device node, mount or hook on each line, so that people can read the text
and tools can compare it line by line. The JSON is valid YAML too, because engines read it as YAML.
It is ASCII, except for characters above U+FFFF: JSON escapes them as a surrogate pair, and YAML
does not accept surrogates.

Reading tries JSON, then YAML, and ignores the file's name, as engines do. A UTF-8 byte order mark
is skipped, as engines do.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from cdi_base import strict_json
from cdi_base.cdi import json_text
from cdi_base.cdi.faults import Fault
from cdi_gen.cdi.document import from_document, to_document
from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.problem import Problem, SpecError

__all__ = ["MAX_SIZE", "Format", "dump", "from_document", "load", "parse", "read", "to_document"]

Format = Literal["json", "yaml"]

MAX_SIZE = json_text.MAX_BYTES
"""The largest text that is read, in bytes (in characters for ``str``)."""

_LONGEST_NUMBER = 30
"""In digits."""


def dump(spec: Spec, text_format: Format = "json") -> str:
    """Return the text of ``spec``, ending with a newline."""
    document = to_document(spec)
    if text_format == "json":
        text = _json(document, "", "") + "\n"
        return re.sub(_SURROGATE_PAIR, _character, text) if "\\ud" in text else text
    from cdi_gen.cdi import yamltext  # noqa: PLC0415  not needed for JSON

    return yamltext.dump(document)


def load(text: str | bytes) -> Spec:
    """Read a spec from JSON or YAML text.

    Raises:
        SpecError: the text is not a spec; ``problems`` has the places and reasons. No other
            exception is raised.
    """
    return from_document(parse(text))


def parse(text: str | bytes) -> object:
    """Return the document in JSON or YAML text; it need not be a spec.

    Raises:
        SpecError: no engine can read the text, or it has more than ``MAX_SIZE`` bytes.
    """
    return read(text)[0]


def read(text: str | bytes) -> tuple[object, list[Fault]]:
    """Return the document as `parse` does, and the faults that make some engines refuse its text.

    Raises:
        SpecError: see `parse`.
    """
    if len(text) > MAX_SIZE:
        message = f"more than {MAX_SIZE} bytes; the largest specs have 150,000"
        raise _error("", message, "CDG-S002")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-16" if text.startswith(_BOMS_OF_UTF_16) else "utf-8")
        except UnicodeDecodeError as error:
            raise _error(f"byte {error.start}", "not UTF-8 text", "CDG-S001") from error
    text = text.removeprefix("\ufeff")
    try:
        document = strict_json.parse(
            text, integer=_integer, decimal=float, longest_key=json_text.MAX_KEY
        )
    except strict_json.TooDeepError as error:
        raise _error("", "nested too deeply", "CDG-S002") from error
    except strict_json.JSONError as error:
        is_duplicate = isinstance(error, strict_json.DuplicateKeyError)
        code = "CDG-S005" if is_duplicate else "CDG-S003"
        return _read_yaml(text, _error(error.place, error.message, code))
    # Engines read JSON with a YAML parser, and not all JSON is valid YAML.
    return (
        (document, []) if json_text.incompatibility(text) is None else _read_yaml(text, _NOT_JSON)
    )


def _read_yaml(text: str, json_error: SpecError) -> tuple[object, list[Fault]]:
    from cdi_gen.cdi import yamltext  # noqa: PLC0415  not needed for JSON

    try:
        return yamltext.parse(text)
    except yamltext.YamlTextError as error:
        # For broken JSON the message of the JSON parser is the better one, if it has a position
        # (it has none for a duplicate key).
        if json_error.problems[0].path and text.lstrip()[:1] in {"{", "["}:
            raise json_error from error
        raise _error(error.place, error.message, error.code) from error


def _json(value: Any, indent: str, key: str) -> str:
    """Return JSON with a line for each device node, mount and hook, and for each key above them."""
    inner = indent + "  "
    if isinstance(value, dict) and key in _MULTILINE:
        lines = [f'{inner}"{name}": {_json(item, inner, name)}' for name, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + indent + "}" if lines else "{}"
    if isinstance(value, list) and value:
        item_key = "" if key == "devices" else "item"
        lines = [inner + _json(item, inner, item_key) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + indent + "]"
    return _encode(value)


_MULTILINE = frozenset({"", "containerEdits"})
# Without indent=, json uses its C encoder, which is 20 times as fast.
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


_SURROGATE_PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")


def _character(surrogate_pair: re.Match[str]) -> str:
    character: str = json.loads(f'"{surrogate_pair[0]}"')
    return character


def _integer(digits: str) -> int | float:
    # int() takes quadratic time, and no field of a spec can hold so many digits.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")


def _error(path: str, message: str, code: str) -> SpecError:
    return SpecError([Problem(path=path, message=message, code=code)])


_NOT_JSON = _error("", "not JSON", "CDG-S003")
_BOMS_OF_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
