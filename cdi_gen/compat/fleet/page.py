# SPDX-License-Identifier: Apache-2.0
"""The result as one HTML page that loads nothing, for people who do not use cdi-gen.

The page is complete without its script and without its style sheet: a server whose policy forbids
both shows the tables and the reasons, and a link from each cell to its reason. The script adds
sorting, filters and the reason beside the table. The page's own policy permits this script and this
style sheet by their hashes and nothing else, so that markup in the name of an image could do
nothing, even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from cdi_base.errors import printable
from cdi_base.findings import Finding
from cdi_gen.compat import data
from cdi_gen.compat.fleet import marks
from cdi_gen.compat.fleet.matrix import HOST, Fleet, HostClass, ImageRow
from cdi_gen.compat.fleet.reasons import Reason, ranges, reasons, summary
from cdi_gen.compat.verdict import KINDS, Verdict

_FOLDER = __file__.rpartition("/")[0]

UNKNOWN_VALUE = "-"

PRINTED_COLUMNS = 12
"""The columns of hosts that a page of A4 holds; a wider table is printed in parts."""

GROUPED_ROWS = 20
"""A table with more images is divided by their CUDA versions."""


def render(fleet: Fleet) -> str:
    """Return the page."""
    style, script = _own_file("page.css"), _own_file("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        "<title>CUDA images and hosts</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        *_header(fleet),
        *(_table(fleet) if fleet.rows or fleet.unreadable else ()),
        *_hosts(fleet),
        *_reasons(fleet),
        "<footer>",
        *_sources(),
        "</footer>",
        '<aside id="panel" role="status" hidden></aside>',
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join([*parts, ""])


def _own_file(name: str) -> str:
    with open(f"{_FOLDER}/{name}", encoding="utf-8") as file:
        return file.read()


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _html(text: str) -> str:
    return escape(printable(text))


def _name(text: str) -> str:
    """Return a name from outside, which may be written from right to left."""
    return f"<bdi>{_html(text)}</bdi>"


def _header(fleet: Fleet) -> Iterator[str]:
    yield "<header>"
    yield "<h1>CUDA images and hosts</h1>"
    yield f"<p>{_html(summary(fleet))}.</p>"
    yield '<dl class="legend">'
    severities = [marks.severity(verdict) for verdict in fleet.verdicts]
    for severity in marks.WORST_FIRST:
        if severity in severities:
            sign = f'<b class="{severity}">{marks.SIGNS[severity]}</b>'
            yield f"<div><dt>{sign}</dt><dd>{marks.SIGN_MEANINGS[severity]}</dd></div>"
    kinds = {verdict.kind for verdict in fleet.verdicts}
    for kind in KINDS:
        if kind in kinds:
            yield f"<div><dt>{marks.WORDS[kind]}</dt><dd>{_html(marks.MEANINGS[kind])}</dd></div>"
    yield "</dl>"
    yield "</header>"


def _table(fleet: Fleet) -> Iterator[str]:
    yield '<form id="controls" hidden>'
    yield '<label>Image <input id="image-filter" type="search" autocomplete="off"></label>'
    yield (
        '<label>Host, driver or GPU <input id="host-filter" type="search" autocomplete="off">'
        "</label>"
    )
    yield "<fieldset><legend>Images with</legend>"
    present = {verdict.kind for verdict in fleet.verdicts}
    for kind in KINDS:
        if kind in present:
            yield (
                f'<label><input type="checkbox" name="kind" value="{kind}" checked>'
                f"{marks.WORDS[kind]}</label>"
            )
    yield "</fieldset>"
    yield '<button type="reset">Show all</button>'
    yield '<output id="shown"></output>'
    yield "</form>"
    is_wide = len(fleet.classes) > PRINTED_COLUMNS
    yield (
        '<div class="scroller" role="region" aria-label="Images and hosts" tabindex="0">'
        f'<table id="matrix" class="{"wide" if is_wide else "narrow"}">'
    )
    yield from _rows(fleet, range(len(fleet.classes)))
    yield from _unread_images(fleet, len(fleet.classes))
    yield "</table></div>"
    for start in range(0, len(fleet.classes) if is_wide else 0, PRINTED_COLUMNS):
        columns = range(start, min(start + PRINTED_COLUMNS, len(fleet.classes)))
        yield '<table class="part">'
        yield from _rows(fleet, columns, is_part=True)
        yield from _unread_images(fleet, len(columns))
        yield "</table>"


def _rows(fleet: Fleet, columns: range, *, is_part: bool = False) -> Iterator[str]:
    """Yield head and bodies of a table with these classes of hosts.

    Args:
        fleet: the verdicts.
        columns: indexes of the classes.
        is_part: whether the table is for paper only, without links.
    """
    classes = fleet.classes[columns.start : columns.stop]
    yield "<thead>"
    yield _branches(classes)
    yield "<tr>"
    yield '<th scope="col" class="image" data-sort="name">Image</th>'
    yield '<th scope="col" data-sort="number">CUDA</th>'
    yield '<th scope="col" data-sort="number">Runs on</th>'
    for host_class in classes:
        name = f"<b>{host_class.label}</b>"
        link = name if is_part else f'<a href="#class-{host_class.label}">{name}</a>'
        gpus = host_class.gpus.replace("NVIDIA ", "")
        yield (
            f'<th scope="col" class="host" data-sort="verdict" data-class="{host_class.label}">'
            f"{link} "
            f"<span>{_html(host_class.driver)}</span> <span>{_name(gpus)}</span> "
            f"<small>{_name(host_class.size)}</small></th>"
        )
    yield "</tr>"
    yield "</thead>"
    texts = [
        _cell(number, verdict, is_part=is_part)
        for number, verdict in enumerate(fleet.verdicts, start=1)
    ]
    for title, rows in _groups(fleet):
        yield "<tbody>"
        if title:
            yield _title(title, len(rows), len(columns))
        for row in rows:
            yield _row(fleet, row, columns, texts)
        yield "</tbody>"


def _branches(classes: Sequence[HostClass]) -> str:
    """Return the upper line of the head: the branches of the driver."""
    cells = []
    for branch, group in groupby(host_class.driver.partition(".")[0] for host_class in classes):
        title = "no driver" if branch == "none" else f"R{branch}"
        cells.append(f'<th scope="colgroup" colspan="{len([*group])}">{_html(title)}</th>')
    start = '<td class="image"></td><td colspan="2"></td>'
    return f'<tr class="branches">{start}{"".join(cells)}</tr>'


def _groups(fleet: Fleet) -> list[tuple[str, list[ImageRow]]]:
    """Return the rows of a long table by CUDA version, oldest first, unknown versions last."""
    if len(fleet.rows) <= GROUPED_ROWS:
        return [("", [*fleet.rows])]
    groups: dict[tuple[int, int] | None, list[ImageRow]] = {}
    for row in fleet.rows:
        groups.setdefault(data.pair(row.facts.cuda or ""), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: item[0] or (1 << 30, 0))
    return [
        (f"CUDA {data.text(version)}" if version else "CUDA version unknown", rows)
        for version, rows in ordered
    ]


def _title(title: str, rows: int, columns: int) -> str:
    return (
        f'<tr class="group"><th scope="rowgroup" colspan="{columns + 3}">'
        f"<span>{_html(title)} <small>{rows}</small></span></th></tr>"
    )


def _row(fleet: Fleet, row: ImageRow, columns: range, texts: list[str]) -> str:
    count = fleet.running_on(row)
    version = data.pair(row.facts.cuda or "") or (0, 0)
    cells = "".join([texts[row.cells[column]] for column in columns])
    cuda = _html(row.facts.cuda or UNKNOWN_VALUE)
    return (
        f'<tr><th scope="row">{_name(row.facts.name)}</th>'
        f'<td data-value="{version[0] * 1000 + version[1]}">{cuda}</td>'
        f'<td data-value="{count}">{count} of {fleet.hosts}</td>{cells}</tr>'
    )


def _cell(number: int, verdict: Verdict, *, is_part: bool) -> str:
    severity = marks.severity(verdict)
    text = (
        f"<b>{marks.SIGNS[severity]}</b> <span>{marks.WORDS[verdict.kind]}</span>"
        f"<sup>{number}</sup>"
    )
    if is_part:
        return f'<td class="{severity}">{text}</td>'
    return f'<td class="{severity}" data-kind="{verdict.kind}"><a href="#r{number}">{text}</a></td>'


def _unread_images(fleet: Fleet, columns: int) -> Iterator[str]:
    rows = [row for row in fleet.unreadable if row.subject != HOST]
    if not rows:
        return
    yield "<tbody>"
    yield _title("Not read", len(rows), columns)
    for row in rows:
        yield (
            f'<tr class="unread"><th scope="row">{_name(row.name)}</th>'
            f'<td colspan="{columns + 2}">{_finding(row.reason)}</td></tr>'
        )
    yield "</tbody>"


def _hosts(fleet: Fleet) -> Iterator[str]:
    unread = [row for row in fleet.unreadable if row.subject == HOST]
    if not fleet.classes and not unread:
        return
    yield "<section>"
    yield '<h2 id="hosts">Hosts</h2>'
    yield "<p>Hosts with the same driver, architecture and models of GPU are one class.</p>"
    yield '<div class="scroller" role="region" aria-label="Hosts" tabindex="0"><table id="classes">'
    heads = ("Class", "Driver", "CUDA", "Module", "GPUs", "Hosts", "Names")
    cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
    yield f"<thead><tr>{cells}</tr></thead>"
    yield "<tbody>"
    for host_class in fleet.classes:
        yield _class_row(host_class)
    for row in unread:
        yield (
            f'<tr class="unread"><th scope="row">{marks.SIGNS[marks.UNSEEN]}</th><td colspan="5">'
            f"{_finding(row.reason)}</td><td>{_name(row.name)}</td></tr>"
        )
    yield "</tbody></table></div>"
    yield "</section>"


def _class_row(host_class: HostClass) -> str:
    facts = host_class.facts
    capabilities = ", ".join(dict.fromkeys(gpu.capability for gpu in facts.gpus if gpu.capability))
    gpus = _name(host_class.gpus) + (
        f" <small>({_html(capabilities)})</small>" if capabilities else ""
    )
    cells = (
        _html(host_class.driver),
        _html(facts.cuda or UNKNOWN_VALUE),
        _html(facts.kernel_module or UNKNOWN_VALUE),
        gpus,
        str(len(host_class.hosts)),
        f'<div class="names">{", ".join(map(_name, host_class.hosts))}</div>',
    )
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return (
        f'<tr id="class-{host_class.label}"><th scope="row">{host_class.label}</th>{columns}</tr>'
    )


def _reasons(fleet: Fleet) -> Iterator[str]:
    if not fleet.verdicts:
        return
    yield "<section>"
    yield '<h2 id="reasons">Reasons</h2>'
    yield '<ol class="reasons">'
    links = [f'<a href="#class-{each.label}">{each.label}</a>' for each in fleet.classes]
    for reason in reasons(fleet):
        yield from _reason(reason, links)
    yield "</ol>"
    yield "</section>"


def _reason(reason: Reason, links: list[str]) -> Iterator[str]:
    verdict = reason.verdict
    severity = marks.severity(verdict)
    yield (
        f'<li id="r{reason.number}"><div class="why"><h3><b class="{severity}">'
        f"{marks.SIGNS[severity]}</b> {marks.WORDS[verdict.kind]}</h3>"
    )
    for finding in verdict.reasons:
        yield f"<p>{_finding(finding)}</p>"
    if verdict.limits:
        yield "<ul>"
        for finding in verdict.limits:
            yield f"<li>{_finding(finding)}</li>"
        yield "</ul>"
    yield '</div><ul class="places">'
    for place in reason.places:
        classes = ", ".join(
            links[first] if first == last else f"{links[first]} to {links[last]}"
            for first, last in ranges(place.columns)
        )
        yield f"<li>on {classes}: {', '.join(map(_name, place.images))}</li>"
    yield "</ul></li>"


def _finding(finding: Finding) -> str:
    fix = f' <span class="fix">Fix: {_html(finding.fix)}</span>' if finding.fix else ""
    return f"{_html(finding.message)} <code>{_html(finding.code)}</code>{fix}"


def _sources() -> Iterator[str]:
    yield "<p>Made by <code>cdi-gen compat</code> from these tables:</p>"
    yield "<ul>"
    for source in data.sources():
        yield f"<li>{_html(source.file)}, {source.date.isoformat()}: {_html(source.source)}</li>"
    yield "</ul>"
