# SPDX-License-Identifier: Apache-2.0
"""YAML text and the document in it, read as engines read it and written so that none can misread.

Reading goes over PyYAML's *events*, not through its constructors: duplicate keys, nesting, anchors
and every place are then in our hands, and nothing is ever built but dicts, lists, text and numbers.
Plain scalars mean what they mean to the engines' Go library: ``0666`` is octal, ``on``, ``1:0`` and
dates are text. Writing quotes everything that YAML 1.1 or 1.2 could take for anything but text.
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

# A plain scalar that starts like this cannot be a number, a date or an indicator of YAML's...
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._+:@=,-]*")
# ...and these words are the rest of what any YAML reader has taken for a value of another type.
_WORDS = frozenset(
    {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"}
)


class YamlTextError(ValueError):
    """The text is not YAML that could hold a spec."""

    def __init__(
        self, message: str, line: int = 0, column: int = 0, code: str = "CDG-S003"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.place = f"line {line}, column {column}" if line else ""
        """Counted from 1; empty where PyYAML does not say."""


def dump(document: dict[str, Any]) -> str:
    """Return the block-style YAML text of ``document``, starting with ``---``."""
    import yaml  # noqa: PLC0415  15 ms that writing JSON need not pay

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Writes text so that every reader takes it for text, and never an anchor."""

        def ignore_aliases(self, _data: object) -> bool:
            return True

    def represent_text(dumper: Any, value: str) -> yaml.ScalarNode:
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
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


def parse(text: str) -> tuple[object, list[Fault]]:
    """Return the first document in ``text``, and what some releases of the library refuse in it.

    Raises:
        YamlTextError: it is not YAML, or has what a spec cannot have: a key twice, tags of a
            language, nesting beyond ``MAX_DEPTH``.
    """
    import yaml  # noqa: PLC0415  see dump

    builder = _Builder(text)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if builder.take(event):
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else ()
        raise YamlTextError(error.problem or "not YAML", *place) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise YamlTextError("a character that YAML does not allow", line, column) from error
    except (ValueError, OverflowError) as error:
        # PyYAML hands \U00110000 and the like to chr() unchecked.
        if isinstance(error, YamlTextError):
            raise
        raise YamlTextError("an escape that stands for no character") from error
    return builder.document, builder.faults


class _Builder:
    """Makes the document out of parser events, without recursion."""

    def __init__(self, text: str) -> None:
        self.document: object = None
        self.faults: list[Fault] = []
        # Only then is the text of a scalar looked at again.
        self._text = text if "\\/" in text else ""
        self._length = len(text)
        self._rest = text
        self._merges: list[list[tuple[object, Any]]] = []
        self._meant: list[set[tuple[type, object]]] = []
        self._open: list[dict[str, object] | list[object]] = []
        self._keys: list[str | None] = []
        self._anchors: dict[str, object] = {}
        self._names: list[str | None] = []

    def take(self, event: Any) -> bool:
        """Go on with an event; tell whether the document is complete."""
        name = type(event).__name__
        if name == "ScalarEvent":
            self._scalar(event)
        elif name in {"MappingStartEvent", "SequenceStartEvent"}:
            self._start(event, {} if name == "MappingStartEvent" else [])
        elif name in {"MappingEndEvent", "SequenceEndEvent"}:
            self._keys.pop()
            self._meant.pop()
            closed, anchor, merges = self._open.pop(), self._names.pop(), self._merges.pop()
            if merges and isinstance(closed, dict):
                self._merge(closed, merges)
            self._anchor(anchor, closed)
            self._value(closed, event)
        elif name == "AliasEvent":
            if event.anchor not in self._anchors:
                raise _at(event, f"alias *{event.anchor} stands for nothing before it")
            self._value(self._anchors[event.anchor], event)
        elif name == "DocumentStartEvent":
            if event.version not in {None, (1, 1)}:
                raise _at(event, "engines read YAML 1.1: leave out the line %YAML")
        elif name == "DocumentEndEvent":
            rest = self._rest[event.end_mark.index :].strip()
            if rest.strip("-. \t\r\n"):
                message = "more follows the document"
                consequence = "engines read the first document, and nothing after it"
                self.faults.append(
                    Fault(_place(event), message, NONE, code="CDG-S004", consequence=consequence)
                )
            return True
        return False

    def _some(self, event: Any, message: str, refused_by: frozenset[str]) -> None:
        self.faults.append(Fault(_place(event), message, refused_by, code="CDG-S006"))

    def _merge(self, mapping: dict[str, object], merges: list[tuple[object, Any]]) -> None:
        """What ``<<`` names is there too, unless the mapping has it itself."""
        if len(merges) > 1:
            self._some(merges[1][1], "key '<<' is there twice", EVERY - BY_JSON)
        for value, event in merges:
            for merged in value if isinstance(value, list) else [value]:
                if not isinstance(merged, dict):
                    raise _at(event, "<< must name a mapping, or a list of mappings")
                twice = mapping.keys() & merged.keys()
                if twice:
                    message = f"<< brings {min(twice)!r}, which is there already"
                    self._some(event, message, BY_JSON)
                for key, item in merged.items():
                    mapping.setdefault(key, item)

    def _start(self, event: Any, container: dict[str, object] | list[object]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise _at(event, f"nested more than {MAX_DEPTH} deep", "CDG-S002")
        if event.tag not in _COLLECTIONS:
            raise _at(event, f"tag {event.tag} has no place in a spec")
        if self._wants_key():
            raise _at(event, "a key must be text")
        self._open.append(container)
        self._keys.append(None)
        self._names.append(event.anchor)
        self._merges.append([])
        self._meant.append(set())

    def _scalar(self, event: Any) -> None:
        if self._text and event.style == '"':
            raw = self._text[event.start_mark.index : event.end_mark.index]
            if has_escape(raw, "/"):
                raise _at(event, "has \\/, which YAML does not know: write / alone")
        if self._wants_key():
            mapping = self._open[-1]
            plain = event.implicit[0]
            if plain and event.value == _MERGE_KEY:
                self._keys[-1] = _MERGE_KEY
                return
            self._keys[-1] = self._key(event, mapping)
            return
        value = _resolved(event)
        if isinstance(value, PlainWord) and event.tag == _TAG + "bool":
            self._some(event, f"{value} is no !!bool", EVERY - BY_JSON)
        self._anchor(event.anchor, value)
        self._value(value, event)

    def _key(self, event: Any, mapping: Any) -> str:
        """Of two keys one may be a number; the releases do not agree on whether they are one."""
        meant = _resolved(event)
        known = self._meant[-1]
        if meant is None:
            self._some(event, "a key is null", BY_JSON)
            return _NULL_KEY
        if event.value in mapping:
            if (type(meant), meant) in known:
                raise _at(event, f"key {event.value!r} is there twice", "CDG-S005")
            self._some(event, f"key {event.value!r} is there twice", EVERY - BY_JSON)
        elif not isinstance(meant, str) and (type(meant), meant) in known:
            self._some(event, f"key {meant!r} is there twice", BY_JSON)
        known.add((type(meant), meant))
        key: str = event.value
        return key

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _anchor(self, anchor: str | None, value: object) -> None:
        if anchor is not None:
            self._anchors[anchor] = value

    def _value(self, value: object, event: Any) -> None:
        if not self._open:
            self.document = value
            return
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
            return
        key = self._keys[-1]
        if key is None:
            raise _at(event, "a key must be text")
        if key is _MERGE_KEY:
            self._merges[-1].append((value, event))
        elif key is not _NULL_KEY:
            container[key] = value
        self._keys[-1] = None


_MERGE_KEY = PlainWord("<<")
_NULL_KEY = PlainWord("~")
"""1.1.1 passes over what it leads to."""
_COLLECTIONS = frozenset({None, "!", *(_TAG + name for name in ("map", "seq", "set", "omap"))})


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}, column {event.start_mark.column + 1}"


def _at(event: Any, message: str, code: str = "CDG-S004") -> YamlTextError:
    mark = event.start_mark
    return YamlTextError(message, mark.line + 1, mark.column + 1, code)


def _resolved(event: Any) -> object:
    plain, _quoted = event.implicit
    if plain:
        return _plain(event.value)
    tag = event.tag
    if tag in {None, "!", _TAG + "str"}:
        return event.value
    if tag in {_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"}:
        return _plain(event.value)
    if tag == _TAG + "binary":
        try:
            return base64.b64decode(event.value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _at(event, "!!binary is not the base64 of a text") from error
    if not tag.startswith(_TAG):
        return event.value
    raise _at(event, f"tag {tag} has no place in a spec")


_INTEGER = re.compile(r"([-+]?)(?:0x([0-9A-Fa-f_]+)|0b([01_]+)|0o?([0-7_]+)|(0|[1-9][0-9_]*))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES = (16, 2, 8, 10)


def _plain(text: str) -> object:
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
