# SPDX-License-Identifier: Apache-2.0
"""What ``cdi-gen doctor`` writes: repairs of the host, and the file of a report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import click

from cdi_gen.cli import console
from cdi_gen.cli.host_options import configured
from cdi_gen.doctor import report
from cdi_gen.doctor.check import Result
from cdi_gen.doctor.host import Host
from cdi_gen.errors import CdiGenError


def repair(results: Iterable[Result], host: Host, *, dry_run: bool) -> bool:
    """Repair the host as far as that is safe; return whether anything may have changed.

    Raises:
        CdiGenError: this process does not run as root.
    """
    from cdi_gen.doctor import fix  # noqa: PLC0415 - not needed by an examination
    from cdi_gen.refresh.settings import settings  # noqa: PLC0415 - as above

    values = configured("refresh", click.get_current_context(), host.where.host_root)
    chosen = settings({key: setting.value for key, setting in values.items()})
    repairs = fix.repairs(results, host, chosen)
    if not repairs:
        console.note("there is nothing that --fix repairs; follow the fixes that are printed")
        return False
    if not dry_run and os.geteuid() != 0:
        raise CdiGenError(
            f"only root can repair this host: {repairs[0].title}",
            hint="run: sudo cdi-gen doctor --fix; to see all repairs, add --dry-run",
            code="CDG-A301",
        )
    for step in repairs:
        verb = "would " if dry_run else ""
        console.note(f"{verb}{step.title}: {step.reason.message}", code=step.reason.code)
        if not dry_run:
            _run(step.title, step.run)
    return not dry_run


def _run(title: str, run: Any) -> None:
    try:
        for message in run():
            console.note(f"  {message}")
    except (CdiGenError, OSError) as error:
        reason = error.message if isinstance(error, CdiGenError) else error.strerror or str(error)
        hint = (error.hint or "") if isinstance(error, CdiGenError) else ""
        console.error(f"cannot {title}: {reason}", code="CDG-A302", hint=hint)


def write_report(path: str, host: Host, results: dict[str, Any]) -> None:
    """Write the report, and say what it is.

    Raises:
        CdiGenError: the file cannot be written.
    """
    from cdi_gen.store import write_text  # noqa: PLC0415 - for a report only

    write_text(report.text(host, results), path)
    console.note(
        f"{path} has what was examined: inventory, specs, engines, configuration files. Names, "
        "addresses, UUIDs and secrets are replaced; read it before you publish it"
    )
