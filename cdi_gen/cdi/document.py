# SPDX-License-Identifier: Apache-2.0
"""Converts between a spec and its document, by one table of fields.

A document is parsed JSON or YAML: dicts, lists, text and numbers. The types of the fields, and the
releases of the standard's library that accept each, are in ``cdi_base.cdi.fields``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from cdi_base.cdi import fields
from cdi_base.cdi.faults import Fault, TooMuchError
from cdi_base.cdi.libraries import EVERY
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
from cdi_gen.cdi.problem import Problem, SpecError

T = TypeVar("T")


def to_document(spec: Spec) -> dict[str, Any]:
    """Return the document of ``spec``: new dicts and lists, keys in the standard's order."""
    return _written(spec)


def from_document(document: object) -> Spec:
    """Read a spec from its document.

    Raises:
        SpecError: the document has a fatal problem; ``problems`` has all fatal problems.
    """
    spec, problems = read(document)
    fatal = [problem for problem in problems if problem.severity == "fatal"]
    if fatal:
        raise SpecError(fatal)
    return spec


def read(document: object) -> tuple[Spec, tuple[Problem, ...]]:
    """Read the valid parts of a document, and return the problems of the other parts.

    Indices in the spec are the same as in the document: an invalid item is replaced by an empty
    one, and not left out.

    Raises:
        SpecError: the document has far too many values or far too many problems.
    """
    try:
        valid_fields, faults = fields.read(document)
    except TooMuchError as error:
        raise SpecError(map(problem_of, error.faults)) from error
    return build(valid_fields), tuple(map(problem_of, faults))


def build(document: dict[str, Any]) -> Spec:
    """Return the spec of a document that has only fields of the standard, with correct types."""
    return _built(Spec, document)


def problem_of(fault: Fault) -> Problem:
    """Return the problem that describes a fault of a document to the user."""
    message = fault.message
    if fault.among:
        message += _suggestion(fault.path.rpartition(".")[2], fault.among)
    if fault.refused_by == EVERY:
        return Problem(path=fault.path, message=message, code=fault.code)
    from cdi_gen.cdi import consumers  # noqa: PLC0415  reads the table of engines

    if not fault.refused_by:
        return Problem(
            path=fault.path,
            message=message,
            code=fault.code,
            consequence=fault.consequence,
            severity="warning",
        )
    return Problem(
        path=fault.path,
        message=message,
        code=fault.code,
        consequence=fault.consequence or consumers.ignoring(fault.refused_by),
        severity="warning" if fault.slight else "error",
        partly_refused_by=fault.refused_by,
    )


def _suggestion(key: str, names: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  most documents have no unknown key

    by_lower_case = {name.lower(): name for name in names}
    matches = get_close_matches(key.replace("_", "").lower(), by_lower_case, 1, 0.8)
    return f"; did you mean {by_lower_case[matches[0]]!r}?" if matches else ""


def _built(type_: type[T], document: dict[str, Any]) -> T:
    arguments = {
        field.attribute: field.form.read(document[field.key])
        if field.key in document
        else field.form.empty
        for field in _FIELDS[type_]
    }
    return type_(**arguments)


def _written(value: object) -> dict[str, Any]:
    document = {}
    for field in _FIELDS[type(value)]:
        item = getattr(value, field.attribute)
        # 0 is a valid device number or user ID; "", (), None and False mean "no such field".
        if field.required or item or (type(item) is int):
            document[field.key] = field.form.write(item)
    return document


class _Form(NamedTuple):
    """How a value is read and written, and which value means "no such field"."""

    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    empty: Any


class _Field(NamedTuple):
    """The name of a field in `cdi_gen.cdi.model`, its key in the document, and its form."""

    attribute: str
    key: str
    form: _Form
    required: bool = False


def _unchanged(value: Any) -> Any:
    return value


def _one(type_: type, empty: Any) -> _Form:
    return _Form(lambda value: _built(type_, value), _written, empty)


def _many(type_: type) -> _Form:
    return _Form(
        lambda items: tuple(_built(type_, item) for item in items),
        lambda items: [_written(item) for item in items],
        (),
    )


def _numbers(items: list[int | None]) -> tuple[int, ...]:
    return tuple(item for item in items if item is not None)


_TEXT = _Form(_unchanged, _unchanged, "")
_TEXTS = _Form(tuple, list, ())
_NUMBER = _Form(_unchanged, _unchanged, None)
_BOOLEAN = _Form(_unchanged, _unchanged, empty=False)
_GROUPS = _Form(_numbers, list, ())
_ANNOTATIONS = _Form(lambda pairs: tuple(pairs.items()), dict, ())
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
        _Field("major", "major", _NUMBER),
        _Field("minor", "minor", _NUMBER),
        _Field("file_mode", "fileMode", _NUMBER),
        _Field("permissions", "permissions", _TEXT),
        _Field("uid", "uid", _NUMBER),
        _Field("gid", "gid", _NUMBER),
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
        _Field("timeout", "timeout", _NUMBER),
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
        _Field("enable_cmt", "enableCMT", _BOOLEAN),
        _Field("enable_mbm", "enableMBM", _BOOLEAN),
    ),
}
