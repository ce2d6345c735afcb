# SPDX-License-Identifier: Apache-2.0
"""A spec and its document: one table says how each field is called, read and written.

The document is what JSON or YAML hold: dicts, lists, text and numbers. Reading is strict, as every
engine is (an unknown field refuses the file), and collects everything that is wrong instead of
stopping at the first fault. Where engines are lenient, so is reading: ``null`` is an absent field,
and a number where text belongs is taken as text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from cdi_gen.cdi.model import (
    ContainerEdits,
    Device,
    DeviceNode,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
    Spec,
)
from cdi_gen.cdi.problem import FILE_IGNORED, Problem, Severity, SpecError

T = TypeVar("T")

MAX_VALUES = 500_000
"""YAML aliases can make a short text stand for a document without end; real specs have 10,000."""

MAX_PROBLEMS = 200


def to_document(spec: Spec) -> dict[str, Any]:
    """Return the document of ``spec``: new dicts and lists, keys in the standard's order."""
    return _written(spec)


def from_document(document: object) -> Spec:
    """Read a spec from its document.

    Raises:
        SpecError: with all that is wrong, if any of it keeps the document from being a spec.
    """
    spec, problems = read(document)
    if any(problem.severity != "warning" for problem in problems):
        raise SpecError(problem for problem in problems if problem.severity != "warning")
    return spec


def read(document: object) -> tuple[Spec, tuple[Problem, ...]]:
    """Read what can be read, and say what is wrong with the rest.

    Indices in the spec are those in the document: what could not be read is empty, not left out.

    Raises:
        SpecError: there is far too much, of content or of problems.
    """
    reading = _Reading()
    return reading.record("", document, Spec), tuple(reading.problems)


class _Reading:
    """One pass over a document, and what it found wrong."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._values = 0

    def wrong(
        self,
        where: str,
        message: str,
        consequence: str = FILE_IGNORED,
        severity: Severity = "fatal",
    ) -> None:
        problem = Problem(
            path=where or ".", message=message, consequence=consequence, severity=severity
        )
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        elif severity != "warning":
            raise SpecError([*self.problems, problem])

    def string(self, where: str, value: object) -> str:
        if isinstance(value, str):
            if not value.isascii() and _has_surrogates(value):
                self.wrong(where, "is not Unicode text: half of a surrogate pair")
                return ""
            return value
        if isinstance(value, int | float):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            self.wrong(
                where,
                f"is {_kind_of(value)}; it must be text: write {text!r} in quotes",
                "engines take it as text, and not all as the same text",
                "warning",
            )
            return text
        self.wrong(where, f"must be text, not {_kind_of(value)}")
        return ""

    def integer(self, where: str, value: object, low: int, high: int) -> int | None:
        if isinstance(value, float) and value.is_integer():
            message = f"is written as the fraction {value}"
            self.wrong(where, message, "engines take it as a whole number", "warning")
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(where, f"must be a whole number, not {_kind_of(value)}")
        elif not low <= value <= high:
            self.wrong(where, f"{value} is not between {low} and {high}")
        else:
            return value
        return None

    def uint32(self, where: str, value: object) -> int | None:
        return self.integer(where, value, 0, 2**32 - 1)

    def int64(self, where: str, value: object) -> int | None:
        return self.integer(where, value, -(2**63), 2**63 - 1)

    def boolean(self, where: str, value: object) -> bool:
        if isinstance(value, bool):
            return value
        self.wrong(where, f"must be true or false, not {_kind_of(value)}")
        return False

    def items(
        self, where: str, value: object, read: Callable[[_Reading, str, object], T]
    ) -> tuple[T, ...]:
        if not isinstance(value, list):
            self.wrong(where, f"must be a list, not {_kind_of(value)}")
            return ()
        self._values += len(value)
        if self._values > MAX_VALUES:
            message = f"the document stands for more than {MAX_VALUES} values"
            raise SpecError([Problem(path=where, message=message)])
        return tuple(read(self, f"{where}[{index}]", item) for index, item in enumerate(value))

    def strings(self, where: str, value: object) -> tuple[str, ...]:
        return self.items(where, value, _Reading.string)

    def group_ids(self, where: str, value: object) -> tuple[int, ...]:
        return tuple(gid for gid in self.items(where, value, _Reading.uint32) if gid is not None)

    def annotations(self, where: str, value: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            self.wrong(where, f"must be an object, not {_kind_of(value)}")
            return ()
        return tuple(
            (self.string(where, key), self.string(f"{where}.{key}", item))
            for key, item in value.items()
        )

    def record(self, where: str, value: object, type_: type[T]) -> T:
        fields = _FIELDS[type_]
        if not isinstance(value, dict):
            self.wrong(where, f"must be an object, not {_kind_of(value)}")
            return type_(**{field.attribute: field.form.empty for field in fields})
        unread = dict(value)
        arguments = {}
        for field in fields:
            item = unread.pop(field.key, None)
            if item is not None:
                item = field.form.read(self, f"{where}.{field.key}", item)
            elif field.required:
                self.wrong(f"{where}.{field.key}", "missing")
            arguments[field.attribute] = field.form.empty if item is None else item
        for key in unread:
            self.wrong(f"{where}.{key}", _unknown(key, fields))
        return type_(**arguments)


def _unknown(key: object, fields: tuple[_Field, ...]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only a fault has to pay for it

    known = {field.key.lower(): field.key for field in fields}
    alike = get_close_matches(str(key).replace("_", "").lower(), known, 1, 0.8)
    return f"unknown field; did you mean {known[alike[0]]!r}?" if alike else "unknown field"


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _written(value: object) -> dict[str, Any]:
    document = {}
    for field in _FIELDS[type(value)]:
        item = getattr(value, field.attribute)
        # 0 is a device number or a user, and is written; "", (), None and False are absence.
        if field.required or item or (type(item) is int):
            document[field.key] = field.form.write(item)
    return document


class _Form(NamedTuple):
    """How a value is read, written, and what stands for its absence."""

    read: Callable[[_Reading, str, object], Any]
    write: Callable[[Any], Any]
    empty: Any


class _Field(NamedTuple):
    """What a field is called here and in the document."""

    attribute: str
    key: str
    form: _Form
    required: bool = False


def _same(value: Any) -> Any:
    return value


def _one(type_: type, empty: Any) -> _Form:
    return _Form(lambda reading, where, value: reading.record(where, value, type_), _written, empty)


def _many(type_: type) -> _Form:
    def read_one(reading: _Reading, where: str, value: object) -> Any:
        return reading.record(where, value, type_)

    return _Form(
        lambda reading, where, value: reading.items(where, value, read_one),
        lambda items: [_written(item) for item in items],
        (),
    )


_TEXT = _Form(_Reading.string, _same, "")
_TEXTS = _Form(_Reading.strings, list, ())
_UINT32 = _Form(_Reading.uint32, _same, None)
_INT64 = _Form(_Reading.int64, _same, None)
_BOOLEAN = _Form(_Reading.boolean, _same, empty=False)
_GROUPS = _Form(_Reading.group_ids, list, ())
_ANNOTATIONS = _Form(_Reading.annotations, dict, ())
_EDITS = _one(ContainerEdits, ContainerEdits())

_FIELDS: dict[type, tuple[_Field, ...]] = {
    Spec: (
        _Field("cdi_version", "cdiVersion", _TEXT, required=True),
        _Field("kind", "kind", _TEXT, required=True),
        _Field("annotations", "annotations", _ANNOTATIONS),
        _Field("devices", "devices", _many(Device), required=True),
        _Field("container_edits", "containerEdits", _EDITS),
    ),
    Device: (
        _Field("name", "name", _TEXT, required=True),
        _Field("annotations", "annotations", _ANNOTATIONS),
        _Field("container_edits", "containerEdits", _EDITS, required=True),
    ),
    ContainerEdits: (
        _Field("env", "env", _TEXTS),
        _Field("device_nodes", "deviceNodes", _many(DeviceNode)),
        _Field("net_devices", "netDevices", _many(NetDevice)),
        _Field("hooks", "hooks", _many(Hook)),
        _Field("mounts", "mounts", _many(Mount)),
        _Field("intel_rdt", "intelRdt", _one(IntelRdt, None)),
        _Field("additional_gids", "additionalGids", _GROUPS),
    ),
    DeviceNode: (
        _Field("path", "path", _TEXT, required=True),
        _Field("host_path", "hostPath", _TEXT),
        _Field("type", "type", _TEXT),
        _Field("major", "major", _INT64),
        _Field("minor", "minor", _INT64),
        _Field("file_mode", "fileMode", _UINT32),
        _Field("permissions", "permissions", _TEXT),
        _Field("uid", "uid", _UINT32),
        _Field("gid", "gid", _UINT32),
    ),
    NetDevice: (
        _Field("host_interface_name", "hostInterfaceName", _TEXT, required=True),
        _Field("name", "name", _TEXT, required=True),
    ),
    Hook: (
        _Field("hook_name", "hookName", _TEXT, required=True),
        _Field("path", "path", _TEXT, required=True),
        _Field("args", "args", _TEXTS),
        _Field("env", "env", _TEXTS),
        _Field("timeout", "timeout", _INT64),
    ),
    Mount: (
        _Field("host_path", "hostPath", _TEXT, required=True),
        _Field("container_path", "containerPath", _TEXT, required=True),
        _Field("options", "options", _TEXTS),
        _Field("type", "type", _TEXT),
    ),
    IntelRdt: (
        _Field("clos_id", "closID", _TEXT),
        _Field("l3_cache_schema", "l3CacheSchema", _TEXT),
        _Field("mem_bw_schema", "memBwSchema", _TEXT),
        _Field("schemata", "schemata", _TEXTS),
        _Field("enable_monitoring", "enableMonitoring", _BOOLEAN),
    ),
}
