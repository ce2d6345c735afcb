# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen who``."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from cdi_gen.cli import console
from cdi_gen.cli.host_options import (
    INVENTORY,
    HostOptions,
    host_options,
    inventory_from,
    locations,
    settings_named_in_errors,
)
from cdi_gen.cli.output import aligned, print_data
from cdi_gen.containers import Container, HeldDevice, Holder, Report, Use, who
from cdi_gen.containers.model import ALLOWED, UNRESTRICTED
from cdi_gen.errors import ExitCode

COLUMNS = ("GPUS", "ENGINE", "CONTAINER", "NAME", "POD", "PROCESSES", "MEMORY")
WIDE = ("GPUS", "UUIDS", "ENGINE", "CONTAINER", "NAME", "IMAGE", "POD", "ALLOCATED", "PID", "USES")

_SHORT_ID = 12


@click.command("who")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    show_default=True,
    help="Format of the output. wide and json also have processes that are in no container.",
)
@INVENTORY
@host_options
def command(host: HostOptions, /, *, form: str, inventory_path: str | None) -> int:
    """Show which container has which GPU or MIG device, in every engine.

    Containers are found from their processes, and no engine is asked. Without root, only the
    containers of the caller are seen.
    """
    report = _report(host, inventory_path)
    is_json = form == "json"
    print_data(json.dumps(_document(report), indent=2) + "\n" if is_json else _table(report, form))
    hidden = [holder.container for holder in report.holders if holder.container.unseen]
    for container in hidden:
        console.warning(
            f"container {_title(container)}: not seen: {'; '.join(container.unseen)}",
            code="CDG-Y201",
            subject=container.origin.id,
        )
    for reason in report.unseen:
        console.warning(f"not seen: {reason}", code="CDG-Y202", hint=_hint())
    if report.no_memory and report.holders and not is_json:
        console.note(f"the memory of processes is not known: {report.no_memory}", code="CDG-H208")
    if not report.holders and not is_json:
        console.note(f"no container has a GPU ({report.containers} running)")
    return ExitCode.PARTIAL if hidden or report.unseen else ExitCode.OK


def _report(host: HostOptions, inventory_path: str | None) -> Report:
    if inventory_path is None:
        with settings_named_in_errors():
            return who(locations(host, transports=False))
    return who(locations(host), inventory=inventory_from(inventory_path, host))


def _hint() -> str:
    return "" if os.geteuid() == 0 else "run: sudo cdi-gen who"


def _table(report: Report, form: str) -> str:
    is_wide = form == "wide"
    rows = [_wide_row(holder) if is_wide else _row(holder) for holder in report.holders]
    if is_wide and report.host_uses:
        rows.append(("-", "-", "host", *("-",) * 6, _uses(report.host_uses)))
    return aligned([WIDE if is_wide else COLUMNS, *rows]) if rows else ""


def _row(holder: Holder) -> tuple[str, ...]:
    origin = holder.container.origin
    return (
        _gpus(holder),
        origin.engine or "-",
        _title(holder.container),
        origin.name or "-",
        _pod(holder.container),
        str(len({use.pid for use in holder.uses}) or "-"),
        _memory(holder),
    )


def _wide_row(holder: Holder) -> tuple[str, ...]:
    origin = holder.container.origin
    allocated = ", ".join(
        f"{allocation.resource}={','.join(allocation.ids)}" for allocation in holder.allocations
    )
    return (
        _gpus(holder),
        ",".join(device.uuid for device in holder.devices) or "-",
        origin.engine or "-",
        origin.id or "-",
        origin.name or "-",
        origin.image or "-",
        _pod(holder.container),
        allocated or "-",
        str(holder.container.first.pid),
        _uses(holder.uses) or "-",
    )


def _uses(uses: tuple[Use, ...]) -> str:
    return ", ".join(
        f"{use.pid} {use.name} on {use.device}"
        + (f" {_size(use.memory)}" if use.memory is not None else "")
        for use in uses
    )


def _gpus(holder: Holder) -> str:
    if holder.has_all:
        return "all (privileged)"
    return ",".join(map(_gpu, holder.devices)) or "-"


def _gpu(device: HeldDevice) -> str:
    is_usable = device.access in {ALLOWED, UNRESTRICTED}
    return device.index if is_usable else f"{device.index} ({device.access})"


def _pod(container: Container) -> str:
    pod = container.origin.pod
    return f"{pod.namespace}/{pod.name}" if pod else "-"


def _title(container: Container) -> str:
    """Return a short id, or the number of the first process if no engine is known."""
    return container.origin.id[:_SHORT_ID] or f"PID {container.first.pid}"


def _memory(holder: Holder) -> str:
    known = [use.memory for use in holder.uses if use.memory is not None]
    return _size(sum(known)) if known else "-"


def _size(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB" if size < 10 << 30 else f"{size / (1 << 30):.1f} GiB"


def _document(report: Report) -> dict[str, Any]:
    return {
        "containers": [_holder(holder) for holder in report.holders],
        "host": {"uses": [_use(use) for use in report.host_uses]},
        "running": report.containers,
        "source": report.source,
        "unseen": list(report.unseen),
    }


def _holder(holder: Holder) -> dict[str, Any]:
    container = holder.container
    origin = container.origin
    pod = origin.pod
    return {
        "engine": origin.engine or None,
        "id": origin.id or None,
        "name": origin.name or None,
        "image": origin.image or None,
        "pod": {
            "namespace": pod.namespace,
            "name": pod.name,
            "container": pod.container,
            "uid": pod.uid or None,
        }
        if pod
        else None,
        "pid": container.first.pid,
        "pids": [process.pid for process in container.processes],
        "within": container.within,
        "bundle": origin.bundle or None,
        "state": origin.state or None,
        "privileged": container.is_privileged,
        "all": holder.has_all,
        "devices": [
            {
                "index": device.index,
                "uuid": device.uuid or None,
                "model": device.model,
                "migProfile": device.profile or None,
                "access": device.access,
            }
            for device in holder.devices
        ],
        "nodes": [
            {
                "path": node.path,
                "type": node.kind,
                "major": node.major,
                "minor": node.minor,
                "access": node.access,
            }
            for node in container.nodes
        ],
        "uses": [_use(use) for use in holder.uses],
        "allocations": [
            {"resource": allocation.resource, "ids": list(allocation.ids)}
            for allocation in holder.allocations
        ],
        "unseen": list(container.unseen),
    }


def _use(use: Use) -> dict[str, Any]:
    return {"pid": use.pid, "name": use.name, "device": use.device, "memory": use.memory}
