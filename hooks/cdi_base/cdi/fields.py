# SPDX-License-Identifier: Apache-2.0
"""Reads the fields of a spec: their names, their types, and the releases that know them.

Reading is strict, as in every engine: a file with an unknown field is rejected. All faults are
collected, while engines stop at the first fault. Reading is lenient where engines are lenient:
`null` is an absent field, and a number in a text field is read as text.
"""

from __future__ import annotations

from cdi_base.cdi.faults import Fault, TooMuchError
from cdi_base.cdi.libraries import BY_JSON, EVERY, NONE, before, since
from cdi_base.cdi.words import FALSE, INFINITE, TRUE, WANTED_FALSE, WANTED_TRUE, PlainWord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Document = dict[str, object]
    Form = Callable[["Reading", str, object], object]

MAX_VALUES = 500_000
"""YAML aliases can make a short text stand for a huge document; real specs have 10,000 values."""

MAX_FAULTS = 200

_MAX_INT64, _MAX_UINT32 = 2**63 - 1, 2**32 - 1
_TOO_LARGE_FOR_NAMES = 1e21
"""Releases that convert to JSON write numbers from here on with `e+`."""
_STRICT = EVERY - BY_JSON


class Reading:
    """One pass over a document, with the faults that it has found."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._values = 0

    def wrong(
        self,
        path: str,
        message: str,
        refused_by: frozenset[str] = EVERY,
        *,
        code: str = "CDG-S103",
    ) -> None:
        """Add a fault for which releases reject the file."""
        self._add(Fault(path or ".", message, refused_by, code=code))

    def odd(self, path: str, message: str, consequence: str) -> None:
        """Add a fault that all releases accept."""
        self._add(Fault(path or ".", message, NONE, code="CDG-S103", consequence=consequence))

    def _add(self, fault: Fault) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault)
        elif fault.refused_by:
            raise TooMuchError([*self.faults, fault])

    def text(self, path: str, value: object) -> str:
        """Read a text; a number or a boolean is converted to text."""
        if isinstance(value, PlainWord):
            # Releases that convert to JSON give a text field a number's text: +Inf, NaN.
            self._not_text(path, "a number" if value in INFINITE else "a boolean", value)
            return str(value)
        if isinstance(value, str):
            if not value.isascii() and _has_surrogates(value):
                self.wrong(path, "is not Unicode text: half of a surrogate pair")
                return ""
            return value
        if isinstance(value, (int, float)):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            self._not_text(path, kind_of(value), text)
            return text
        self.wrong(path, f"must be text, not {kind_of(value)}")
        return ""

    def _not_text(self, path: str, kind: str, text: str) -> None:
        message = f"is {kind}; it must be text: write {text!r} in quotes"
        self.odd(path, message, "engines read it as text, but not all as the same text")

    def name(self, path: str, value: object) -> str:
        """Read the name of a device."""
        if isinstance(value, (int, float)) and abs(value) >= _TOO_LARGE_FOR_NAMES:
            self.wrong(path, "is a number too large for a name: write it in quotes", BY_JSON)
        if isinstance(value, PlainWord) and value.lower() == ".nan":
            # The releases that convert to JSON read the name NaN.
            self.wrong(path, f"{value} is a number to YAML: write another name", _STRICT)
            return "NaN"
        return self.text(path, value)

    def _whole(self, path: str, value: object, low: int, high: int) -> int | None:
        if isinstance(value, float) and value.is_integer():
            message = f"is written as the fraction {value}"
            self.odd(path, message, "engines read it as a whole number")
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(path, f"must be a whole number, not {kind_of(value)}")
        elif not low <= value <= high:
            self.wrong(path, f"{value} is not between {low} and {high}")
        else:
            return value
        return None

    def uint32(self, path: str, value: object) -> int | None:
        """Read an unsigned 32-bit number."""
        return self._whole(path, value, 0, _MAX_UINT32)

    def int64(self, path: str, value: object) -> int | None:
        """Read a signed 64-bit number."""
        return self._whole(path, value, -_MAX_INT64 - 1, _MAX_INT64)

    def boolean(self, path: str, value: object) -> bool:
        """Read a boolean, or one of the words of YAML 1.1 for it."""
        if isinstance(value, bool):
            return value
        refused_by = NONE
        if not isinstance(value, str) or value not in TRUE | FALSE:
            refused_by = EVERY
        else:
            if not isinstance(value, PlainWord):
                refused_by |= BY_JSON
            if value not in WANTED_TRUE | WANTED_FALSE:
                refused_by |= _STRICT
        shown = repr(value) if isinstance(value, str) else kind_of(value)
        if refused_by:
            self.wrong(path, f"must be true or false, not {shown}", refused_by)
        else:
            self.odd(path, f"is {shown}", "it is true or false to YAML 1.1 alone")
        return isinstance(value, str) and value in TRUE

    def items(self, path: str, value: object, form: Form, absent: frozenset[str]) -> list[object]:
        """Read a list.

        Args:
            path: the path of the list.
            value: the list.
            form: reads an item.
            absent: the releases that reject the file if an item is null; the other releases leave
                the item out, or read it as an empty item.
        """
        if not isinstance(value, list):
            self.wrong(path, f"must be a list, not {kind_of(value)}")
            return []
        self._values += len(value)
        if self._values > MAX_VALUES:
            message = f"the document stands for more than {MAX_VALUES} values"
            raise TooMuchError([Fault(path, message, code="CDG-S002")])
        if form is Reading.text and all(type(item) is str and item.isascii() for item in value):
            return list(value)
        items = []
        for index, item in enumerate(value):
            if item is None and absent != EVERY:
                self._null(f"{path}[{index}]", absent)
            else:
                items.append(form(self, f"{path}[{index}]", item))
        return items

    def _null(self, path: str, refused_by: frozenset[str]) -> None:
        if refused_by:
            self.wrong(path, "is null: left out, or read as empty", refused_by)
        else:
            self.odd(path, "is null", "some engines leave it out, others read it as empty")

    def annotations(self, path: str, value: object) -> Document:
        """Read an object of texts."""
        if not isinstance(value, dict):
            self.wrong(path, f"must be an object, not {kind_of(value)}")
            return {}
        annotations: Document = {}
        for key, item in value.items():
            name = self.text(path, key)
            annotations[name] = "" if item is None else self.text(f"{path}.{name}", item)
        return annotations

    def record(self, path: str, value: object, fields: dict[str, Field]) -> Document:
        """Read an object with these fields and no others."""
        if not isinstance(value, dict):
            self.wrong(path, f"must be an object, not {kind_of(value)}")
            return {}
        if not value.keys() <= fields.keys():
            value = self._renamed(path, value, fields)
        record: Document = {}
        for key, (form, known_to, required) in fields.items():
            item = value.get(key)
            if known_to != EVERY and key in value:
                message = "a field that not every release of the standard's library knows"
                self.wrong(f"{path}.{key}", message, EVERY - known_to, code="CDG-S102")
            if type(item) is str and form is Reading.text and item.isascii():
                # The common case, which needs no further check.
                record[key] = item
            elif item is not None:
                record[key] = form(self, f"{path}.{key}", item)
            elif required:
                self.wrong(f"{path}.{key}", "missing", code="CDG-S101")
        return record

    def _renamed(self, path: str, value: Document, fields: dict[str, Field]) -> Document:
        """Rename keys as the releases that convert to JSON do, which ignore the case of keys."""
        by_folded = {key.lower(): key for key in fields}
        renamed: Document = {}
        # Of two keys that differ only in case, the last in sorted order counts.
        for key in sorted(value, key=str):
            name = key if key in fields else by_folded.get(_folded(key))
            if name is None:
                self._add(Fault(f"{path}.{key}", UNKNOWN, among=tuple(fields), code="CDG-S102"))
                continue
            if name != key:
                message = f"{UNKNOWN}; {name!r} is written with other capitals"
                self.wrong(f"{path}.{key}", message, _STRICT, code="CDG-S102")
            renamed[name] = value[key]
        return renamed


UNKNOWN = "unknown field"


def kind_of(value: object) -> str:
    """Return the type of a value, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _folded(key: object) -> str:
    """Fold the case of a key as Go does: two letters beyond ASCII fold to ASCII letters."""
    return str(key).lower().replace("\u017f", "s")


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _one(fields: dict[str, Field]) -> Form:
    return lambda reading, path, value: reading.record(path, value, fields)


def _list(form: Form, absent: frozenset[str] = EVERY) -> Form:
    return lambda reading, path, value: reading.items(path, value, form, absent)


if TYPE_CHECKING:
    Field = tuple[Form, frozenset[str], bool]
    """The function that reads the field, the releases that know it, and whether it is required."""

_TEXTS = _list(Reading.text, NONE)
_VARIABLES = _list(Reading.text, BY_JSON)
_SINCE_0_6, _SINCE_0_7, _SINCE_1_1 = since("0.6.2"), since("0.7.2"), since("1.1.0")

_NODE: dict[str, Field] = {
    "path": (Reading.text, EVERY, True),
    "hostPath": (Reading.text, EVERY, False),
    "type": (Reading.text, EVERY, False),
    "major": (Reading.int64, EVERY, False),
    "minor": (Reading.int64, EVERY, False),
    "fileMode": (Reading.uint32, EVERY, False),
    "permissions": (Reading.text, EVERY, False),
    "uid": (Reading.uint32, EVERY, False),
    "gid": (Reading.uint32, EVERY, False),
}
_NET_DEVICE: dict[str, Field] = {
    "hostInterfaceName": (Reading.text, EVERY, True),
    "name": (Reading.text, EVERY, True),
}
_HOOK: dict[str, Field] = {
    "hookName": (Reading.text, EVERY, True),
    "path": (Reading.text, EVERY, True),
    "args": (_TEXTS, EVERY, False),
    "env": (_VARIABLES, EVERY, False),
    "timeout": (Reading.int64, EVERY, False),
}
_MOUNT: dict[str, Field] = {
    "hostPath": (Reading.text, EVERY, True),
    "containerPath": (Reading.text, EVERY, True),
    "options": (_TEXTS, EVERY, False),
    "type": (Reading.text, EVERY, False),
}
_INTEL_RDT: dict[str, Field] = {
    "closID": (Reading.text, EVERY, False),
    "l3CacheSchema": (Reading.text, EVERY, False),
    "memBwSchema": (Reading.text, EVERY, False),
    "schemata": (_TEXTS, _SINCE_1_1, False),
    "enableMonitoring": (Reading.boolean, _SINCE_1_1, False),
    "enableCMT": (Reading.boolean, _SINCE_0_7 & before("1.1.0"), False),
    "enableMBM": (Reading.boolean, _SINCE_0_7 & before("1.1.0"), False),
}
_EDITS: dict[str, Field] = {
    "env": (_VARIABLES, EVERY, False),
    "deviceNodes": (_list(_one(_NODE)), EVERY, False),
    "netDevices": (_list(_one(_NET_DEVICE)), _SINCE_1_1, False),
    "hooks": (_list(_one(_HOOK)), EVERY, False),
    "mounts": (_list(_one(_MOUNT)), EVERY, False),
    "intelRdt": (_one(_INTEL_RDT), _SINCE_0_7, False),
    "additionalGids": (_list(Reading.uint32, NONE), _SINCE_0_7, False),
}
_DEVICE: dict[str, Field] = {
    "name": (Reading.name, EVERY, True),
    "annotations": (Reading.annotations, _SINCE_0_6, False),
    "containerEdits": (_one(_EDITS), EVERY, True),
}
_SPEC: dict[str, Field] = {
    "cdiVersion": (Reading.text, EVERY, True),
    "kind": (Reading.text, EVERY, True),
    "annotations": (Reading.annotations, _SINCE_0_6, False),
    "devices": (_list(_one(_DEVICE), BY_JSON), EVERY, False),
    "containerEdits": (_one(_EDITS), EVERY, False),
}


def read(document: object) -> tuple[Document, list[Fault]]:
    """Return the document with its known fields, each of its type; and the faults.

    Raises:
        TooMuchError: there are too many values or faults.
    """
    reading = Reading()
    return reading.record("", document, _SPEC), reading.faults
