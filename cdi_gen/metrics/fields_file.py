# SPDX-License-Identifier: Apache-2.0
"""Reads the file that chooses fields, in dcgm-exporter's CSV format.

A line is ``FIELD, type, help``; the type is ``gauge``, ``counter`` or ``label``. dcgm-exporter
takes the type and the help as they are written. It rejects a file with a field that it does not
know; here such a line is skipped with a warning, because files list fields that only DCGM gives.
Published files also have comments that are indented, lines of commas only, and a field twice: a
spreadsheet and a ConfigMap make them so.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cdi_base import files
from cdi_base.errors import explain, printable
from cdi_base.findings import Finding
from cdi_gen.errors import UsageError
from cdi_gen.metrics.catalogue import (
    LANE,
    LINKS,
    NEW,
    OLD,
    Field,
    SelectedField,
    SelectedLabel,
    Selection,
    absent_fields,
    device_labels,
    fields,
)
from cdi_gen.metrics.exposition import COUNTER, GAUGE

MAX_BYTES = 1 << 20
HELP_LIMIT = 500
LABEL = "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldsFile:
    """The content of a file."""

    selection: Selection
    findings: tuple[Finding, ...] = ()
    """The lines that were skipped."""


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    name: str
    type: str
    help: str


def read_fields_file(path: str) -> FieldsFile:
    """Return the fields that a file chooses; the file may be a symbolic link, as in a ConfigMap.

    Raises:
        UsageError: as `parse_fields_file`; or the file cannot be read.
    """
    try:
        content = files.read(path, MAX_BYTES, follow=True)
    except OSError as error:
        raise UsageError(
            f"the file of fields cannot be read: {explain(error)[0]}",
            hint="--fields takes a file of dcgm-exporter, such as default-counters.csv",
            code="CDG-O050",
            subject=path,
        ) from error
    return parse_fields_file(content, printable(path))


def parse_fields_file(content: bytes, source: str) -> FieldsFile:
    """Return the fields that a file chooses.

    Args:
        content: the file's content.
        source: the path of the file, for messages.

    Raises:
        UsageError: a line is malformed, or the file chooses no field.
    """
    findings: list[Finding] = []
    rows = _rows(content, source, findings)
    names = {row.name for row in rows}
    sets = [set_name for set_name in (OLD, NEW) if _only_in(set_name) & names]
    order = (NEW, OLD) if sets == [NEW] else (OLD, NEW)
    known = {name: field for set_name in reversed(order) for name, field in _by_name(set_name)}
    selected: list[SelectedField] = []
    labels: list[SelectedLabel] = []
    keys = {name: label.key for label in device_labels() for name in label.names.values()}
    for row in rows:
        if row.type == LABEL and row.name in keys:
            labels += [SelectedLabel(keys[row.name], row.name, name) for name in (OLD, NEW)]
        elif row.type != LABEL and row.name in known:
            set_name, field = known[row.name]
            name = field.names[set_name]._replace(type=row.type)
            selected.append(SelectedField(field, set_name, name, row.help or field.help))
        else:
            findings.append(_skipped(row, source))
    if not selected:
        raise UsageError(
            f"{source} chooses no field that NVML gives",
            hint="docs/metrics.md lists the fields",
            code="CDG-O050",
            subject=source,
        )
    return FieldsFile(selection=Selection(tuple(selected), tuple(labels)), findings=tuple(findings))


def _by_name(set_name: str) -> list[tuple[str, tuple[str, Field]]]:
    lanes = [field for field in fields() if field.entity == LANE]
    single = [field.of_link(number) for field in lanes for number in range(LINKS)]
    return [
        (field.names[set_name].name, (set_name, field))
        for field in (*fields(), *single)
        if set_name in field.names and field not in lanes
    ]


def _only_in(set_name: str) -> set[str]:
    """Return the names that only one set of names has."""
    other = OLD if set_name == NEW else NEW
    return {name for name, _ in _by_name(set_name)} - {name for name, _ in _by_name(other)}


def _rows(content: bytes, source: str, findings: list[Finding]) -> list[_Row]:
    """Return the rows, each field once; add what was skipped to the findings."""
    if len(content) > MAX_BYTES:
        raise _error(source, f"{source} is larger than {MAX_BYTES >> 20} MiB")
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise _error(source, f"{source} is not UTF-8") from error
    rows: dict[str, _Row] = {}
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#") or not line.strip(", \t\r"):
            continue
        row = _row(line.rstrip("\r"), number, source)
        other = rows.setdefault(row.name, row)
        if other is not row:
            findings.append(_finding(row, source, f"it is in line {other.line} too"))
    return [*rows.values()]


def _row(line: str, number: int, source: str) -> _Row:
    place = f"{source}, line {number}"
    try:
        cells = next(csv.reader([line], strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise _error(source, f"{place}: {error}") from error
    if len(cells) != 3:
        raise _error(
            source, f"{place} has {len(cells)} values instead of 3: a field, its type and its help"
        )
    name, type_, help_text = (cell.strip() for cell in cells)
    if type_ not in {GAUGE, COUNTER, LABEL}:
        raise _error(
            source, f"{place}: the type is {printable(type_)!r} instead of gauge, counter or label"
        )
    return _Row(number, name, type_, printable(help_text[:HELP_LIMIT]))


def _error(source: str, message: str) -> UsageError:
    return UsageError(
        message,
        hint="a line is: FIELD, gauge|counter|label, help; quote a help that has a comma",
        code="CDG-O050",
        subject=source,
    )


def _skipped(row: _Row, source: str) -> Finding:
    reason = "NVML does not give this field, or cdi-gen does not know it"
    if row.type == LABEL:
        reason = "cdi-gen cannot make this field a label"
    for absent in absent_fields():
        if any(fnmatchcase(row.name, name) for name in absent.names):
            reason = absent.reason.rstrip(".")
    return _finding(row, source, reason)


def _finding(row: _Row, source: str, reason: str) -> Finding:
    name = printable(row.name[:HELP_LIMIT])
    return Finding(
        "CDG-O051",
        "warning",
        f"{source}, line {row.line}: {name} is skipped: {reason}",
        subject=source,
    )
