# SPDX-License-Identifier: Apache-2.0
"""The result as CSV, a line for each class of hosts and image, for spreadsheets.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return as
a formula, also if it is quoted. The names of hosts and images are not ours, so such a cell gets an
apostrophe in front, which marks text.
"""

from __future__ import annotations

import csv
import io

from cdi_base.errors import printable
from cdi_gen.compat.fleet import marks
from cdi_gen.compat.fleet.matrix import HOST, Fleet

COLUMNS = (
    *("image", "digest", "image_cuda", "class", "driver", "driver_cuda", "gpus", "hosts"),
    *("verdict", "severity", "reasons", "limits", "host_names"),
)

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(fleet: Fleet) -> str:
    """Return the result as CSV with a line of names; what could not be read comes last."""
    details = [
        (
            verdict.kind,
            marks.severity(verdict),
            " ".join(marks.line(finding) for finding in verdict.reasons),
            " ".join(marks.line(finding) for finding in verdict.limits),
        )
        for verdict in fleet.verdicts
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    classes = [
        (
            (each.label, each.driver, each.facts.cuda or "", each.gpus, str(len(each.hosts))),
            " ".join(each.hosts),
        )
        for each in fleet.classes
    ]
    for row in fleet.rows:
        image = (row.facts.name, row.facts.digest or "", row.facts.cuda or "")
        for (facts, names), index in zip(classes, row.cells, strict=True):
            writer.writerow(map(cell, (*image, *facts, *details[index], names)))
    for unread in fleet.unreadable:
        host, image_name = (unread.name, "") if unread.subject == HOST else ("", unread.name)
        reason = ("unreadable", marks.UNSEEN, marks.line(unread.reason), "", host)
        writer.writerow(map(cell, (image_name, *[""] * 7, *reason)))
    return buffer.getvalue()


def cell(text: str) -> str:
    """Return a text that a spreadsheet shows and does not calculate, in one line."""
    return f"'{printable(text)}" if text.startswith(FORMULA) else printable(text)
