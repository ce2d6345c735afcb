# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen doctor``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

import click

from cdi_base.cdi import SPEC_DIRECTORIES as DEFAULT_DIRECTORIES
from cdi_gen import engines, findings
from cdi_gen.cli import doctor_repairs, explain, named_file
from cdi_gen.cli.host_options import (
    INVENTORY,
    SPEC_DIRECTORIES,
    TEXT,
    HostOptions,
    host_options,
    locations,
    reject_locations,
)
from cdi_gen.cli.output import can_show, print_data
from cdi_gen.doctor import checks, output, report
from cdi_gen.doctor.check import GROUPS, Check
from cdi_gen.doctor.header import header
from cdi_gen.doctor.host import Host, Scope
from cdi_gen.doctor.recording import Recording
from cdi_gen.doctor.run import exit_code, run
from cdi_gen.errors import ExitCode, UsageError


@click.command("doctor")
@click.argument("names", metavar="[CHECK]...", nargs=-1)
@click.option(
    "--engine",
    "engine_names",
    multiple=True,
    type=click.Choice(engines.NAMES),
    help="Examine only this engine; may be given several times.  [default: all]",
)
@click.option(
    "--image",
    type=TEXT,
    help="Examine also whether this image can use the GPUs.  [default: no image]",
)
@click.option("--all", "all_checks", is_flag=True, help="Print also checks that do not apply.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option(
    "--fix",
    "repair",
    is_flag=True,
    help="Repair what can be repaired safely: nodes, links in /dev/char, modules, our specs.",
)
@click.option("--dry-run", is_flag=True, help="With --fix: print the repairs; change nothing.")
@click.option("--redact", is_flag=True, help="Replace names, addresses, UUIDs and secrets.")
@click.option(
    "--report",
    "report_path",
    metavar="FILE",
    help="Write all that was examined to a file, redacted, for a bug report.  [default: no file]",
)
@click.option(
    "--explain",
    "code",
    metavar="CODE",
    help="Explain a code, and examine nothing.  [default: examine]",
)
@INVENTORY
@SPEC_DIRECTORIES
@host_options
def command(
    host: HostOptions,
    /,
    *,
    names: tuple[str, ...],
    engine_names: tuple[str, ...],
    image: str | None,
    all_checks: bool,
    as_json: bool,
    repair: bool,
    dry_run: bool,
    redact: bool,
    report_path: str | None,
    code: str | None,
    inventory_path: str | None,
    spec_directories: tuple[str, ...],
) -> int:
    """Examine this host: what keeps containers from their GPUs, and what to do about it.

    CHECK is the name of a check or of a group: driver, device-nodes, specs, engines, security,
    rootless, sharing, fabric, kubernetes, images. Nothing is changed without --fix.

    The exit code is 1 if there is a fault, and 4 if there is none, but this user cannot see
    everything; a warning is no fault. `--inventory` takes the report or the inventory of another
    host.
    """
    if code is not None:
        explain.print_explanations((code,))
        return ExitCode.OK
    selected = select(checks.load(), names)
    scope = Scope(engine_names, image, spec_directories or DEFAULT_DIRECTORIES)
    if inventory_path is not None and (repair or report_path):
        option = "--fix" if repair else "--report"
        raise UsageError(f"{option} is about this host, --inventory about another", code="CDG-U002")
    examined = _host(host, scope, inventory_path)
    results = run(selected, examined)
    if repair and doctor_repairs.repair(results, examined, dry_run=dry_run):
        examined = _host(host, scope, None)
        results = run(selected, examined)
    # The header asks the engines, which takes most of the time.
    head = header(examined) if not names or report_path else ()
    explanations = findings.explanations()
    document = output.document(head, results, explanations)
    if report_path:
        doctor_repairs.write_report(report_path, examined, document)
    redaction = report.redaction(examined) if redact else None
    if as_json:
        shown = redaction.value(document) if redaction else document
        print_data(json.dumps(shown, indent=2) + "\n")
    else:
        text = output.text(head, results, explanations, _form(all_checks=all_checks))
        print_data(redaction.text(text) if redaction else text)
    return exit_code(results)


def select(all_checks: Sequence[Check], names: Sequence[str]) -> tuple[Check, ...]:
    """Return the checks with these names or in these groups; without names, all.

    Raises:
        UsageError: there is no such check.
    """
    known = {check.name for check in all_checks} | GROUPS.keys()
    for name in names:
        if name not in known:
            matches = get_close_matches(name, known, n=1)
            suggestion = f"; did you mean {matches[0]}?" if matches else ""
            raise UsageError(
                f"unknown check {name!r}{suggestion}",
                hint="list the checks with: cdi-gen doctor --all",
                code="CDG-U001",
            )
    return tuple(check for check in all_checks if not names or {check.name, check.group} & {*names})


def _host(options: HostOptions, scope: Scope, inventory_path: str | None) -> Host:
    if inventory_path is None:
        return Host(locations(options), scope=scope)
    reject_locations()
    content, _ = named_file.read(inventory_path, report.MAX_BYTES)
    name = named_file.display_name(inventory_path)
    return Host(scope=scope, recording=Recording(report.answers(content, name)))


def _form(*, all_checks: bool) -> output.Form:
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return output.Form(
        colour=is_terminal and not os.environ.get("NO_COLOR"),
        ascii_only=not can_show("".join(output.SIGNS.values())),
        all_checks=all_checks,
    )
