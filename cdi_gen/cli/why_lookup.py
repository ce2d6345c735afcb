# SPDX-License-Identifier: Apache-2.0
"""The answers of ``cdi-gen why NAME``, as text and as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from cdi_base.errors import printable
from cdi_gen.cli import console
from cdi_gen.cli.host_options import HostOptions, gather_inventory, inventory_from
from cdi_gen.cli.output import print_data
from cdi_gen.errors import CdiGenError, ExitCode, UsageError
from cdi_gen.inventory import Inventory
from cdi_gen.why import readers, user
from cdi_gen.why.answer import RANK, Answer, Outcome, answers
from cdi_gen.why.readers import Reader
from cdi_gen.why.spec_files import Host

SIGNS = {"works": "✓", "broken": "✗", "fails": "✗", "unresolved": "✗", "unknown": "\u2013"}
ASCII_SIGNS = {"works": "ok", "broken": "X", "fails": "X", "unresolved": "X", "unknown": "-"}

OUTCOMES: dict[Outcome, str] = {
    "works": "a container gets the device",
    "broken": "a container starts, and the device does not work",
    "fails": "a container does not start",
    "unresolved": "the device is not resolved",
    "unknown": "cannot be seen",
}


class Question(NamedTuple):
    """The command line."""

    host: HostOptions
    names: tuple[str, ...]
    engine_names: tuple[str, ...] = ()
    user_name: str | None = None
    inventory_path: str | None = None
    spec_directories: tuple[str, ...] = ()
    """The directories that every engine reads instead of its own; empty: its own."""


def answer(question: Question, form: str) -> int:
    """Print the answers for device names, and return the exit code.

    Raises:
        UsageError: an engine or a user is not known, or the host has no engine.
    """
    found = find(question)
    print_data(_json(found) if form == "json" else text(found))
    return exit_code(found)


def exit_code(found: Sequence[Answer]) -> ExitCode:
    """Return the exit code: an engine that would not give the device counts before all else."""
    outcomes = {item.outcome for item in found}
    if outcomes & {"unresolved", "fails", "broken"}:
        return ExitCode.ERROR
    return ExitCode.PARTIAL if "unknown" in outcomes else ExitCode.OK


def find(question: Question) -> list[Answer]:
    """Return the answers for device names.

    Raises:
        UsageError: as `answer`.
    """
    host_root = question.host.host_root
    chosen = engines_of(host_root, question.engine_names, question.user_name)
    if question.spec_directories:
        chosen = [reader._replace(directories=question.spec_directories) for reader in chosen]
    return answers(question.names, chosen, Host(host_root), inventory_of(question))


def engines_of(host_root: str, engine_names: Sequence[str], user_name: str | None) -> list[Reader]:
    """Return the engines of the command line, or else those of the host.

    Raises:
        UsageError: as `answer`.
    """
    asked = user.named(user_name) if user_name else user.calling(os.environ)
    if not asked.is_visible:
        raise UsageError(
            f"--user {asked.name}: only root can say what another user may read",
            hint=f"sudo cdi-gen why … --user {asked.name}",
            code="CDG-U002",
            subject="--user",
        )
    without_version = [name for name in engine_names if "@" not in name]
    installed = (
        readers.installed(asked, os.environ, host_root, readers.names_of(without_version))
        if without_version or not engine_names
        else []
    )
    if not engine_names:
        if not installed:
            raise UsageError(
                "no container engine is installed on this host",
                hint="name one: --engine podman@5.4.2",
                code="CDG-Y012",
            )
        return installed
    return [
        reader
        for name in engine_names
        for reader in readers.named(name, asked, os.environ, installed, host_root)
    ]


def inventory_of(question: Question) -> Callable[[], Inventory | None]:
    """Gather the inventory when it is needed; a host without a driver has none."""
    if question.inventory_path is not None:
        inventory = inventory_from(question.inventory_path, question.host)
        return lambda: inventory

    @cache
    def gather() -> Inventory | None:
        try:
            return gather_inventory(question.host, transports=False)
        except CdiGenError:
            return None

    return gather


def text(found: Sequence[Answer]) -> str:
    """Return the answers as text: for each name the engines with the same answer together."""
    signs = SIGNS if has_signs() else ASCII_SIGNS
    lines: list[str] = []
    for name, of_name in groupby(found, key=lambda item: item.name):
        lines.append(name)
        for group in _alike([*of_name]):
            lines += _lines(group, signs)
    return "".join(f"{printable(line)}\n" for line in lines)


def has_signs() -> bool:
    """Whether standard output can show the signs of `SIGNS`."""
    import sys  # noqa: PLC0415

    encoding = os.environ.get("PYTHONIOENCODING") or sys.stdout.encoding or ""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    return "utf" in encoding.lower() and locale not in {"C", "POSIX"}


def _alike(found: Sequence[Answer]) -> list[list[Answer]]:
    """Answers with the same outcome and findings, except for the engine's own name in them."""
    groups: dict[tuple[Any, ...], list[Answer]] = {}
    for item in found:
        messages = tuple(
            (
                finding.code,
                finding.message.replace(item.reader.title, "").replace(item.reader.label, ""),
            )
            for finding in item.findings
        )
        groups.setdefault((item.outcome, item.file, messages), []).append(item)
    return sorted(groups.values(), key=lambda group: RANK[group[0].outcome])


def _lines(group: Sequence[Answer], signs: dict[str, str]) -> list[str]:
    first = group[0]
    engines = ", ".join(dict.fromkeys(item.reader.title for item in group))
    where = f" ({first.file})" if first.file else ""
    lines = [f"{signs[first.outcome]} {engines}: {OUTCOMES[first.outcome]}{where}"]
    if first.outcome != "works":
        lines += [f"    {line}" for line in _directories(first)]
    for index, finding in enumerate(first.findings):
        if finding.severity == "debug" and not console.is_debug():
            continue
        kind = {"error": "cause", "warning": "warning"}.get(finding.severity, "note")
        lines.append(f"    {kind}: {finding.message} [{finding.code}]")
        # The answers of a group have the same findings in the same order.
        fixes = dict.fromkeys(item.findings[index].fix for item in group)
        for fix in [*fixes][:1] if finding.severity == "info" else fixes:
            if fix:
                lines.append(f"      fix: {fix}")
    return lines


def _directories(item: Answer) -> list[str]:
    """What the engine has read: directories in its order, and the fate of each file."""
    if item.lookup is None or not item.lookup.directories:
        return []
    parts = []
    for directory in item.lookup.directories:
        states = [f"{file.file.path.rpartition('/')[2]} {file.state}" for file in directory.files]
        if directory.state == "read":
            parts.append(f"{directory.path} ({', '.join(states) or 'empty'})")
        else:
            parts.append(f"{directory.path} ({directory.state})")
    return [f"reads: {', '.join(parts)}"]


def _json(found: Sequence[Answer]) -> str:
    import json  # noqa: PLC0415

    return json.dumps({"answers": [document(item) for item in found]}, indent=2) + "\n"


def document(item: Answer) -> dict[str, Any]:
    """Return the JSON form of an answer."""
    reader = item.reader
    return {
        "name": item.name,
        "engine": reader.engine,
        "version": reader.version,
        "user": reader.user.name,
        "rootless": reader.rootless,
        "cdi": reader.cdi,
        "newestCdiVersion": reader.newest_cdi_version,
        "outcome": item.outcome,
        "file": item.file,
        "directories": [
            {
                "path": directory.path,
                "state": directory.state,
                "files": [
                    {
                        "path": file.file.path,
                        "state": file.state,
                        "definesDevice": file.device is not None,
                        **({"finding": file.reason.fields()} if file.reason else {}),
                    }
                    for file in directory.files
                ],
                **({"finding": directory.reason.fields()} if directory.reason else {}),
            }
            for directory in (item.lookup.directories if item.lookup else ())
        ],
        "findings": [finding.fields() for finding in item.findings],
    }
