# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdi_base.errors import printable
from cdi_gen.cli import console
from cdi_gen.cli.host_options import SPEC_DIRECTORIES, HostOptions, host_options
from cdi_gen.cli.output import TEXT_OR_JSON, print_data
from cdi_gen.errors import ExitCode, NoDriverError
from cdi_gen.refresh.check import check
from cdi_gen.refresh.settings import Layout

if TYPE_CHECKING:
    from cdi_gen.refresh.check import Report


@click.command("check")
@SPEC_DIRECTORIES
@TEXT_OR_JSON
@host_options
def command(host: HostOptions, /, *, spec_directories: tuple[str, ...], form: str) -> int:
    """Check whether the specs that engines read describe this host.

    Specs of any program are checked: files and device nodes that do not exist or have other
    numbers, files of another driver, GPUs without a device, devices without a GPU, files that
    conflict. NVML is not asked, and nothing is changed.

    Every line is a difference. The exit code is 5 if there is one, and 3 if the host has neither a
    driver nor a spec. `cdi-gen refresh` corrects the specs that it wrote.
    """
    report = check(Layout(**host._asdict()), spec_directories)
    if form == "json":
        print_data(_json(report))
    else:
        print_data(
            "".join(
                f"{printable(difference.message)} [{difference.code}]\n"
                for difference in report.differences
            )
        )
        for note in report.notes:
            console.report(note)
    if report.exit_code is ExitCode.NO_DRIVER:
        raise NoDriverError(
            "this host has no NVIDIA driver and no spec of NVIDIA devices", code="CDG-H001"
        )
    return report.exit_code


def _json(report: Report) -> str:
    import json  # noqa: PLC0415 - for programs only

    document = {
        "fresh": report.exit_code is ExitCode.OK,
        "differences": [difference.fields() for difference in report.differences],
        "notes": [note.fields() for note in report.notes],
    }
    return json.dumps(document, indent=2) + "\n"
