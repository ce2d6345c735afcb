# SPDX-License-Identifier: Apache-2.0
"""Reads the hosts of a fleet: a directory of inventories, and of reports of `cdi-gen doctor`.

A host's name is the file's name without ``.json``. A file that cannot be read becomes a row with
the reason, so that one host does not hide the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

from cdi_base import files, strict_json
from cdi_base.findings import Finding
from cdi_gen.compat.facts import HostFacts
from cdi_gen.compat.fleet.matrix import HOST, Unreadable
from cdi_gen.compat.host_facts import host_facts
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.inventory import json_form

SUFFIX = ".json"

MAX_BYTES = 32 << 20
"""Limit of a file; a report has the inventory and everything else that was read."""

MAX_FILES = 100_000

REPORT = '"cdi-gen doctor report"'
"""What the beginning of a report has as its kind."""


def read(directory: str) -> tuple[list[HostFacts], list[Unreadable]]:
    """Return the facts of all hosts of a directory, and the files without such facts.

    Raises:
        UsageError: the directory cannot be listed, or has no file or too many files.
    """
    rows = [_host(directory, name) for name in _names(directory)]
    return (
        [row for row in rows if isinstance(row, HostFacts)],
        [row for row in rows if isinstance(row, Unreadable)],
    )


def _host(directory: str, file_name: str) -> HostFacts | Unreadable:
    name = file_name.removesuffix(SUFFIX)
    try:
        return _facts(f"{directory}/{file_name}", name)
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        reason = Finding("CDG-M102", "error", message)
    except CdiGenError as error:
        reason = error.finding
    return Unreadable(subject=HOST, name=name, reason=reason)


def _names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(_json_names(entry.name for entry in entries))
    except OSError as error:
        raise UsageError(
            f"cannot read the directory {directory}: {error.strerror}",
            hint="give a directory with an inventory of each host: cdi-gen inventory -o HOST.json",
            code="CDG-M101",
            subject=directory,
        ) from error
    if not names:
        raise UsageError(
            f"{directory} has no inventory: no file whose name ends in {SUFFIX}",
            hint="write one on each host: cdi-gen inventory --requirement-facts -o HOST.json",
            code="CDG-M101",
            subject=directory,
        )
    if len(names) > MAX_FILES:
        raise UsageError(
            f"{directory} has more than {MAX_FILES} files",
            hint="divide the fleet into several directories",
            code="CDG-M101",
            subject=directory,
        )
    return names


def _json_names(names: Iterator[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(SUFFIX) and not name.startswith("."):
            yield name


def _facts(path: str, name: str) -> HostFacts:
    content = files.read(path, MAX_BYTES, follow=True)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = "the file is not UTF-8 text"
        raise json_form.InventoryError(message, code="CDG-I001") from error
    inventory = json_form.load(_inventory_of_report(text) if REPORT in text[:200] else text)
    facts = host_facts(inventory, name)
    # Equal GPUs must have equal names, and not those of their positions, to be one GPU of a class.
    models = (gpu.model for gpu in inventory.gpus)
    gpus = (replace(gpu, name=model) for gpu, model in zip(facts.gpus, models, strict=False))
    return replace(facts, gpus=tuple(gpus))


def _inventory_of_report(text: str) -> str:
    """Return the text of the inventory in a report of `cdi-gen doctor`.

    Raises:
        CdiGenError: the host had none, or the text is no report.
    """
    try:
        answer = strict_json.parse(text)
    except strict_json.JSONError as error:
        message = f"the report is not valid JSON: {error}"
        raise json_form.InventoryError(message, code="CDG-I001") from error
    for key in ("answers", "inventory", ""):
        answer = answer.get(key) if isinstance(answer, dict) else None
    if isinstance(answer, dict) and isinstance(answer.get("value"), dict):
        return json.dumps(answer["value"])
    fault = answer.get("error") if isinstance(answer, dict) else None
    detail = fault.get("message") if isinstance(fault, dict) else None
    reason = f": {detail}" if isinstance(detail, str) else ""
    raise CdiGenError(
        f"the report has no inventory of the host{reason}",
        hint="on a host with GPUs: sudo cdi-gen doctor --report FILE",
        code="CDG-M102",
    )
