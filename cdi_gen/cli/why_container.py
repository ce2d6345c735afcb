# SPDX-License-Identifier: Apache-2.0
"""The answers of ``cdi-gen why --container``, ``--bundle`` and ``--state``, as text and as JSON."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.errors import printable
from cdi_gen import store
from cdi_gen.cli.host_options import HostOptions, gather_inventory, inventory_from
from cdi_gen.cli.output import print_data
from cdi_gen.containers import examination
from cdi_gen.containers.examination import Examination
from cdi_gen.containers.holders import host_nodes
from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.inventory import Inventory
from cdi_gen.why.container import Answer, answer
from cdi_gen.why.container_facts import Host


class Question(NamedTuple):
    """The command line; one of the three names is given."""

    host: HostOptions
    container: str | None
    bundle: str | None
    state: str | None
    inventory_path: str | None
    spec_directories: tuple[str, ...]


def run(question: Question, form: str) -> int:
    """Print the answer for a container, and return the exit code.

    Raises:
        CdiGenError: there is no such container, or its files cannot be read.
    """
    inventory, reason = _inventory(question)
    examined = _examine(question, inventory)
    prefix = question.host.host_root.rstrip("/")
    directories = question.spec_directories or SPEC_DIRECTORIES
    registry = store.read([f"{prefix}{directory}" for directory in directories])
    host = Host(inventory, registry, lambda path: os.path.lexists(f"{prefix}{path}"))
    result = answer(examined, host)
    unseen = (*examined.unseen, *((reason,) if reason else ()))
    print_data(_json(result, unseen) if form == "json" else text(result, unseen))
    if result.is_faulty:
        return ExitCode.ERROR
    return ExitCode.PARTIAL if unseen else ExitCode.OK


def _inventory(question: Question) -> tuple[Inventory | None, str]:
    if question.inventory_path is not None:
        return inventory_from(question.inventory_path, question.host), ""
    try:
        return gather_inventory(question.host, transports=False), ""
    except CdiGenError as error:
        return None, f"the driver of this host: {error.message}"


def _examine(question: Question, inventory: Inventory | None) -> Examination:
    nodes = host_nodes(inventory) if inventory else ()
    root = question.host.host_root
    if question.bundle is not None:
        return examination.by_bundle(question.bundle, root, nodes)
    if question.state is not None:
        return examination.by_state(question.state, root, nodes)
    return examination.by_name(question.container or "", root, nodes)


def text(result: Answer, unseen: tuple[str, ...] = ()) -> str:
    """Return the answer as text."""
    lines = [_title(result)]
    facts = result.facts
    if facts.names:
        lines.append(f"  devices     {', '.join(facts.names)} (by {facts.source})")
    elif facts.requested_by_variable:
        lines.append(f"  devices     NVIDIA_VISIBLE_DEVICES={facts.requested_by_variable}")
    lines += [f"  node        {row.path}  {row.numbers}  {row.state}" for row in result.nodes]
    if result.files.mounts:
        deleted = len(result.files.deleted)
        line = f"  libraries   {len(result.files.mounts)} files mounted"
        line += f", driver {', '.join(result.files.versions)}" if result.files.versions else ""
        lines.append(line + (f", {deleted} deleted on the host" if deleted else ""))
    driver = facts.host.inventory.driver if facts.host.inventory else None
    if driver:
        lines.append(f"  module      {driver.version}")
    if result.nvidia_smi:
        lines.append(f"  nvidia-smi  {result.nvidia_smi}")
    if facts.examination.error:
        lines.append(f"  error       {facts.examination.error}")
    for finding in result.findings:
        lines.append(f"  cause: {finding.message} [{finding.code}]")
        if finding.fix:
            lines.append(f"    fix: {finding.fix}")
    lines += [f"  not seen: {reason}" for reason in unseen]
    if not result.findings and not unseen:
        lines.append("  no fault found" if result.nodes else "  the container has no GPU")
    return "".join(f"{printable(line)}\n" for line in lines)


def _title(result: Answer) -> str:
    examined = result.facts.examination
    origin = examined.origin
    name = f" {origin.name}" if origin.name else ""
    engine = f" of {origin.engine}" if origin.engine else ""
    container = examined.container
    state = f"running, PID {container.first.pid}" if container else "not running"
    return f"container {origin.id or origin.bundle or '-'}{name}{engine}: {state}"


def _json(result: Answer, unseen: tuple[str, ...]) -> str:
    examined = result.facts.examination
    origin = examined.origin
    driver = result.facts.host.inventory.driver if result.facts.host.inventory else None
    programs = examined.programs
    document: dict[str, Any] = {
        "engine": origin.engine or None,
        "id": origin.id or None,
        "name": origin.name or None,
        "bundle": origin.bundle or None,
        "state": origin.state or None,
        "pid": examined.container.first.pid if examined.container else None,
        "devices": list(result.facts.names),
        "specFiles": list(result.facts.spec_files),
        "nodes": [row._asdict() for row in result.nodes],
        "libraries": {
            "mounted": [mount.point for mount in result.files.mounts],
            "deleted": [mount.point for mount in result.files.deleted],
            "versions": list(result.files.versions),
            "found": dict(programs.libraries) if programs else None,
        },
        "moduleVersion": driver.version if driver else None,
        "nvidiaSmi": result.nvidia_smi or None,
        "error": examined.error or None,
        "findings": [finding.fields() for finding in result.findings],
        "unseen": list(unseen),
    }
    return json.dumps(document, indent=2) + "\n"
