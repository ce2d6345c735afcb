# SPDX-License-Identifier: Apache-2.0
"""Reads YAML text as engines do, and writes YAML text that no reader can misread.

The reader uses PyYAML's *events* and not its constructors: the reader itself handles duplicate
keys, nesting and anchors, knows the position of each fault, and builds only dicts, lists, text and
numbers. Plain scalars have the meaning that the engines' Go library gives them: ``0666`` is octal;
``on``, ``1:0`` and dates are text. The writer quotes all text that YAML 1.1 or 1.2 could read as
another type.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from cdi_base.cdi.faults import Fault
from cdi_base.cdi.json_text import has_escape
from cdi_base.cdi.libraries import BY_JSON, EVERY, NONE
from cdi_base.cdi.words import WORDS, PlainWord

if TYPE_CHECKING:
    import yaml

MAX_DEPTH = 64

_TAG = "tag:yaml.org,2002:"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True} | dict.fromkeys(
    ("false", "False", "FALSE"), False
)
_LONGEST_NUMBER = 30

# A plain scalar with these characters cannot be a number, a date or an indicator of YAML...
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._+:@=,-]*")
# ...and these words are the other scalars that some YAML reader takes for another type than text.
_AMBIGUOUS_WORDS = frozenset(
    {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"}
)


class YamlTextError(ValueError):
    """The text is not YAML, or has a construct that a spec cannot contain."""

    def __init__(
        self, message: str, line: int = 0, column: int = 0, code: str = "CDG-S003"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.place = f"line {line}, column {column}" if line else ""
        """Line and column, counted from 1; empty if PyYAML gives no position."""


def dump(document: dict[str, Any]) -> str:
    """Return the block-style YAML text of ``document``, starting with ``---``."""
    import yaml  # noqa: PLC0415  the import takes 15 ms, and JSON does not need it

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Writes text so that every reader takes it for text; writes no anchors."""

        def ignore_aliases(self, _data: object) -> bool:
            return True

    def represent_text(dumper: Any, value: str) -> yaml.ScalarNode:
        plain = _PLAIN.fullmatch(value) and value.lower() not in _AMBIGUOUS_WORDS
        return dumper.represent_scalar(_TAG + "str", value, style=None if plain else '"')  # type: ignore[no-any-return]

    Dumper.add_representer(str, represent_text)
    return yaml.dump(
        document,
        Dumper=Dumper,
        default_flow_style=False,
        explicit_start=True,
        sort_keys=False,
        width=1 << 30,
    )


def _character(text: str, line: int, column: int) -> str:
    """The character at a position, counted from 1; nothing at the end of the text."""
    lines = text.split("\n")
    return lines[line - 1][column - 1 : column] if line <= len(lines) else ""


def parse(text: str) -> tuple[object, list[Fault]]:
    """Return the first document in ``text``, and the faults that some library releases refuse.

    Raises:
        YamlTextError: the text is not YAML, or has a duplicate key, a tag of a programming language
            or more than ``MAX_DEPTH`` levels.
    """
    import yaml  # noqa: PLC0415  see dump

    builder = _Builder(text)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if builder.take(event):
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        problem = error.problem or "not YAML"
        if mark and "start any token" in problem and _character(text, *position) == "\t":
            problem = "a tab, where YAML allows only spaces"
        raise YamlTextError(problem, *position) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise YamlTextError("a character that YAML does not allow", line, column) from error
    except (ValueError, OverflowError) as error:
        # PyYAML passes numbers such as that of \U00110000 to chr() unchecked.
        if isinstance(error, YamlTextError):
            raise
        raise YamlTextError("an escape of a character that does not exist") from error
    return builder.document, builder.faults


class _Builder:
    """Builds the document from parser events, without recursion."""

    def __init__(self, text: str) -> None:
        self.document: object = None
        self.faults: list[Fault] = []
        self._text = text
        self._may_escape_slash = "\\/" in text
        self._anchors: dict[str, object] = {}
        # One entry for each open collection, the outermost first:
        self._open: list[dict[str, object] | list[object]] = []
        self._anchor_names: list[str | None] = []
        self._keys: list[str | None] = []
        """The key whose value comes next; None: a key comes next, or it is a list."""
        self._key_values: list[set[tuple[type, object]]] = []
        """The keys so far, as the values that they resolve to."""
        self._merges: list[list[tuple[object, Any]]] = []
        """The values of ``<<``, with their events."""

    def take(self, event: Any) -> bool:
        """Process an event; return whether the document is complete."""
        name = type(event).__name__
        if name == "ScalarEvent":
            self._scalar(event)
        elif name in {"MappingStartEvent", "SequenceStartEvent"}:
            self._start(event, {} if name == "MappingStartEvent" else [])
        elif name in {"MappingEndEvent", "SequenceEndEvent"}:
            self._keys.pop()
            self._key_values.pop()
            collection, anchor = self._open.pop(), self._anchor_names.pop()
            merges = self._merges.pop()
            if merges and isinstance(collection, dict):
                self._merge(collection, merges)
            self._set_anchor(anchor, collection)
            self._add(collection, event)
        elif name == "AliasEvent":
            if event.anchor not in self._anchors:
                raise _error(event, f"alias *{event.anchor} refers to no anchor before it")
            self._add(self._anchors[event.anchor], event)
        elif name == "DocumentStartEvent":
            if event.version not in {None, (1, 1)}:
                raise _error(event, "engines read YAML 1.1: leave out the line %YAML")
        elif name == "DocumentEndEvent":
            rest = self._text[event.end_mark.index :].strip()
            if rest.strip("-. \t\r\n"):
                message = "there is more text after the document"
                consequence = "engines read the first document only"
                self.faults.append(
                    Fault(_place(event), message, NONE, code="CDG-S004", consequence=consequence)
                )
            return True
        return False

    def _fault(self, event: Any, message: str, refused_by: frozenset[str]) -> None:
        self.faults.append(Fault(_place(event), message, refused_by, code="CDG-S006"))

    def _merge(self, mapping: dict[str, object], merges: list[tuple[object, Any]]) -> None:
        """Add the items of the mappings that ``<<`` names; the mapping's own items win."""
        if len(merges) > 1:
            self._fault(merges[1][1], "duplicate key '<<'", EVERY - BY_JSON)
        for value, event in merges:
            for merged in value if isinstance(value, list) else [value]:
                if not isinstance(merged, dict):
                    raise _error(event, "<< must name a mapping, or a list of mappings")
                duplicates = mapping.keys() & merged.keys()
                if duplicates:
                    message = f"<< merges key {min(duplicates)!r}, which the mapping already has"
                    self._fault(event, message, BY_JSON)
                for key, item in merged.items():
                    mapping.setdefault(key, item)

    def _start(self, event: Any, collection: dict[str, object] | list[object]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise _error(event, f"nested more than {MAX_DEPTH} deep", "CDG-S002")
        if event.tag not in _COLLECTIONS:
            raise _error(event, f"tag {event.tag} is not allowed in a spec")
        if self._expects_key():
            raise _error(event, "a key must be text")
        self._open.append(collection)
        self._keys.append(None)
        self._anchor_names.append(event.anchor)
        self._merges.append([])
        self._key_values.append(set())

    def _scalar(self, event: Any) -> None:
        if self._may_escape_slash and event.style == '"':
            raw = self._text[event.start_mark.index : event.end_mark.index]
            if has_escape(raw, "/"):
                raise _error(event, "has \\/, which YAML does not know: write / alone")
        if self._expects_key():
            mapping = self._open[-1]
            is_plain = event.implicit[0]
            if is_plain and event.value == _MERGE_KEY:
                self._keys[-1] = _MERGE_KEY
                return
            self._keys[-1] = self._key(event, mapping)
            return
        value = _resolve(event)
        if isinstance(value, PlainWord) and event.tag == _TAG + "bool":
            self._fault(event, f"{value} is not a !!bool", EVERY - BY_JSON)
        self._set_anchor(event.anchor, value)
        self._add(value, event)

    def _key(self, event: Any, mapping: Any) -> str:
        """Return the key in a scalar event, and report duplicates.

        Releases of the library disagree on whether keys are equal if one of them is a number.
        """
        value = _resolve(event)
        key_values = self._key_values[-1]
        if value is None:
            self._fault(event, "a key is null", BY_JSON)
            return _NULL_KEY
        if event.value in mapping:
            if (type(value), value) in key_values:
                raise _error(event, f"duplicate key {event.value!r}", "CDG-S005")
            self._fault(event, f"duplicate key {event.value!r}", EVERY - BY_JSON)
        elif not isinstance(value, str) and (type(value), value) in key_values:
            self._fault(event, f"duplicate key {value!r}", BY_JSON)
        key_values.add((type(value), value))
        key: str = event.value
        return key

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _set_anchor(self, anchor: str | None, value: object) -> None:
        if anchor is not None:
            self._anchors[anchor] = value

    def _add(self, value: object, event: Any) -> None:
        if not self._open:
            self.document = value
            return
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
            return
        key = self._keys[-1]
        if key is None:
            raise _error(event, "a key must be text")
        if key is _MERGE_KEY:
            self._merges[-1].append((value, event))
        elif key is not _NULL_KEY:
            container[key] = value
        self._keys[-1] = None


_MERGE_KEY = PlainWord("<<")
_NULL_KEY = PlainWord("~")
"""Release 1.1.1 of the library ignores the value of this key."""
_COLLECTIONS = frozenset({None, "!", *(_TAG + name for name in ("map", "seq", "set", "omap"))})


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}, column {event.start_mark.column + 1}"


def _error(event: Any, message: str, code: str = "CDG-S004") -> YamlTextError:
    mark = event.start_mark
    return YamlTextError(message, mark.line + 1, mark.column + 1, code)


def _resolve(event: Any) -> object:
    """Return the value of a scalar."""
    is_plain, _ = event.implicit
    if is_plain:
        return _resolve_plain(event.value)
    tag = event.tag
    if tag in {None, "!", _TAG + "str"}:
        return event.value
    if tag in {_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"}:
        return _resolve_plain(event.value)
    if tag == _TAG + "binary":
        try:
            return base64.b64decode(event.value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _error(event, "!!binary is not base64 of UTF-8 text") from error
    if not tag.startswith(_TAG):
        return event.value
    raise _error(event, f"tag {tag} is not allowed in a spec")


_INTEGER = re.compile(r"([-+]?)(?:0x([0-9A-Fa-f_]+)|0b([01_]+)|0o?([0-7_]+)|(0|[1-9][0-9_]*))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES = (16, 2, 8, 10)


def _resolve_plain(text: str) -> object:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text in WORDS:
        return PlainWord(text)
    if len(text) > _LONGEST_NUMBER or text[0] not in "+-.0123456789":
        return text
    if match := _INTEGER.fullmatch(text):
        sign, *numerals = match.groups()
        for numeral, base in zip(numerals, _BASES, strict=True):
            if digits := (numeral or "").replace("_", ""):
                return int(sign + digits, base)
    return float(text) if _FLOAT.fullmatch(text) else text
