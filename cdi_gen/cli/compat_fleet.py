# SPDX-License-Identifier: Apache-2.0
"""The part of ``cdi-gen compat`` for fleets: ``--inventories DIR --images LIST``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cdi_gen.cli import console, named_file
from cdi_gen.cli.compat_output import CSV, HTML, JSON, JUNIT, TEXT, Target
from cdi_gen.cli.output import can_show
from cdi_gen.compat.fleet import (
    document,
    image_list,
    inventories,
    junit,
    marks,
    matrix,
    page,
    pin,
    spreadsheet,
    text,
)
from cdi_gen.compat.fleet.matrix import Fleet
from cdi_gen.compat.fleet.reasons import summary
from cdi_gen.compat.image_facts import read_facts
from cdi_gen.compat.verdict import MACHINES
from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.store import write_text


class LockFile(NamedTuple):
    """The lock file of ``--pin``."""

    path: str
    update: bool


def run(
    directory: str, list_path: str, targets: Sequence[Target], lock_file: LockFile | None
) -> int:
    """Decide for all hosts and images, write the outputs, compare with the lock file.

    Args:
        directory: of the inventories.
        list_path: the list of images; ``-``: standard input.
        targets: the outputs.
        lock_file: written if it does not exist or is to be updated, else compared.
    """
    content, _ = named_file.read(list_path, image_list.MAX_BYTES)
    lines = image_list.names(content, named_file.display_name(list_path))
    lock = _read_lock(lock_file) if lock_file else None
    hosts, unread_hosts = inventories.read(directory)
    machines = {host.architecture for host in hosts}
    images, unread_images = image_list.read(
        lines,
        os.path.dirname(list_path) or ".",
        [architecture for architecture, machine in MACHINES.items() if machine in machines],
        read_facts,
    )
    fleet = matrix.decide(hosts, images, [*unread_hosts, *unread_images])
    findings = pin.differences(lock, fleet) if lock else []
    left = [finding.message for finding in findings if finding.severity == "error"]
    for target in targets:
        target.write(_rendered(fleet, target, left))
    if all(target.path for target in targets):
        console.note(summary(fleet))
    for finding in findings:
        console.report(finding)
    if lock_file and not lock:
        _write_lock(fleet, lock_file.path)
    if left:
        return ExitCode.STALE
    if fleet.has_failure():
        return ExitCode.ERROR
    return ExitCode.OK if fleet.is_complete() else ExitCode.PARTIAL


def _rendered(fleet: Fleet, target: Target, left: list[str]) -> str:
    renderers: dict[str, Callable[[], str]] = {
        TEXT: lambda: text.render(fleet) if target.path else _for_terminal(fleet),
        JSON: lambda: document.render(fleet),
        CSV: lambda: spreadsheet.render(fleet),
        JUNIT: lambda: junit.render(fleet, left),
        HTML: lambda: page.render(fleet),
    }
    return renderers[target.form]()


def _for_terminal(fleet: Fleet) -> str:
    """Return the table for the width and the encoding of standard output."""
    width = shutil.get_terminal_size((text.WIDTH, 0)).columns if sys.stdout.isatty() else text.WIDTH
    has_signs = can_show("".join(marks.SIGNS.values()))
    return text.render(fleet, width=width, signs=marks.SIGNS if has_signs else marks.ASCII_SIGNS)


def _read_lock(lock_file: LockFile) -> pin.Lock | None:
    """Return the lock to compare with; None if it is to be written."""
    if lock_file.update or not os.path.lexists(lock_file.path):
        return None
    content, _ = named_file.read(lock_file.path, pin.MAX_BYTES)
    return pin.load(content, lock_file.path)


def _write_lock(fleet: Fleet, path: str) -> None:
    if fleet.unreadable:
        raise CdiGenError(
            f"{path} is not written, because it would be incomplete: hosts or images that cannot "
            f"be read: {len(fleet.unreadable)}",
            hint="the table has the reason for each",
            code="CDG-M108",
            subject=path,
        )
    write_text(pin.dump(pin.lock_of(fleet)), path)
    console.note(f"{path}: wrote {fleet.hosts} hosts and {len(fleet.rows)} images")
