# SPDX-License-Identifier: Apache-2.0
"""A spec as text: JSON or YAML, read strictly, written readably.

JSON is written with one device node, mount or hook to a line, so that people can read it, and tools
compare it line by line. It is YAML as well, which is how engines read it: in ASCII, but for
characters beyond U+FFFF, which JSON could only escape as two halves, and YAML takes no halves.

Reading tries JSON, then YAML, whatever the file is called: engines read either text under either
name. A UTF-8 byte order mark is skipped, as engines do.
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
"""Bytes, or characters, that are read at most."""

_LONGEST_NUMBER = 30


def dump(spec: Spec, text_format: Format = "json") -> str:
    """Return the text of ``spec``, ending with a newline."""
    document = to_document(spec)
    if text_format == "json":
        text = _json(document, "", "") + "\n"
        return re.sub(_PAIR, _joined, text) if "\\ud" in text else text
    from cdi_gen.cdi import yamltext  # noqa: PLC0415  writing JSON need not pay for it

    return yamltext.dump(document)


def load(text: str | bytes) -> Spec:
    """Read a spec from JSON or YAML text.

    Raises:
        SpecError: it is not a spec; ``problems`` says where and why. No other exception.
    """
    return from_document(parse(text))


def parse(text: str | bytes) -> object:
    """Return the document in JSON or YAML text, whatever it holds.

    Raises:
        SpecError: no engine reads it, or it has more than ``MAX_SIZE`` bytes.
    """
    return read(text)[0]


def read(text: str | bytes) -> tuple[object, list[Fault]]:
    """Return the document as `parse` does, and what some engines refuse in its text.

    Raises:
        SpecError: see `parse`.
    """
    if len(text) > MAX_SIZE:
        message = f"more than {MAX_SIZE} bytes; the largest specs have 150,000"
        raise _refused("", message, "CDG-S002")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-16" if text.startswith(_BOMS_OF_UTF_16) else "utf-8")
        except UnicodeDecodeError as error:
            raise _refused(f"byte {error.start}", "not UTF-8 text", "CDG-S001") from error
    text = text.removeprefix("\ufeff")
    try:
        document = strict_json.parse(
            text, integer=_integer, decimal=float, longest_key=json_text.MAX_KEY
        )
    except strict_json.TooDeepError as error:
        raise _refused("", "nested far too deep", "CDG-S002") from error
    except strict_json.JSONError as error:
        twice = isinstance(error, strict_json.DuplicateKeyError)
        code = "CDG-S005" if twice else "CDG-S003"
        return _read_yaml(text, _refused(error.place, error.message, code))
    # Engines read JSON as the YAML that it mostly is.
    return (document, []) if json_text.doubt(text) is None else _read_yaml(text, _NOT_JSON)


def _read_yaml(text: str, json_error: SpecError) -> tuple[object, list[Fault]]:
    from cdi_gen.cdi import yamltext  # noqa: PLC0415  reading JSON need not pay for it

    try:
        return yamltext.parse(text)
    except yamltext.YamlTextError as error:
        # A broken JSON file deserves JSON's own message, except for keys, which it cannot place.
        if json_error.problems[0].path and text.lstrip()[:1] in {"{", "["}:
            raise json_error from error
        raise _refused(error.place, error.message, error.code) from error


def _json(value: Any, indent: str, key: str) -> str:
    """Spread out what contains edits; keep a node, a mount or a hook on one line."""
    inner = indent + "  "
    if isinstance(value, dict) and key in _SPREAD:
        lines = [f'{inner}"{name}": {_json(item, inner, name)}' for name, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + indent + "}" if lines else "{}"
    if isinstance(value, list) and value:
        item_key = "" if key == "devices" else "item"
        lines = [inner + _json(item, inner, item_key) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + indent + "]"
    return _encode(value)


_SPREAD = frozenset({"", "containerEdits"})
# Without indent=, json uses its C encoder: 20 times as fast.
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


_PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")


def _joined(halves: re.Match[str]) -> str:
    character: str = json.loads(f'"{halves[0]}"')
    return character


def _integer(digits: str) -> int | float:
    # Python's int() takes quadratic time over digits that no field of a spec can hold.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")


def _refused(path: str, message: str, code: str) -> SpecError:
    return SpecError([Problem(path=path, message=message, code=code)])


_NOT_JSON = _refused("", "not JSON", "CDG-S003")
_BOMS_OF_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
