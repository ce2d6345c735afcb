# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen doctor --fix``: repairs what can be repaired without a risk.

A repair creates what the driver would create itself, writes the specs of ``cdi-gen refresh`` again,
or opens one of them for reading. Nothing of another program is changed, and no container is
stopped; all else is only printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Result
from cdi_gen.doctor.host import Host
from cdi_gen.host.where import roots
from cdi_gen.refresh import update
from cdi_gen.refresh.record import DIRECTORY
from cdi_gen.refresh.settings import Layout, Request, Settings
from cdi_gen.system import dev_char, device_nodes, modules

MODE = 0o644


class Repair(NamedTuple):
    """One repair of the host."""

    title: str
    """What is done: ``create the driver's missing device nodes``."""
    reason: Finding
    """The finding for which it is done."""
    run: Callable[[], list[str]]
    """Does it, and returns what was changed.

    Raises:
        CdiGenError: it cannot be done.
    """


NODES = frozenset({"CDG-H201", "CDG-H301"})
MODULES = frozenset({"CDG-H202"})
LINKS = frozenset({"CDG-A062"})
FRESHNESS = frozenset({
    "CDG-V102", "CDG-V103", "CDG-V104", "CDG-V105", "CDG-V106", "CDG-V107", "CDG-V108", "CDG-V109",
})  # fmt: skip
UNREADABLE = frozenset({"CDG-F107"})


def repairs(results: Iterable[Result], host: Host, settings: Settings) -> tuple[Repair, ...]:
    """Return the repairs for the findings of checks, in the order in which they are done.

    Args:
        results: of the checks.
        host: the host.
        settings: of ``refresh``, from the configuration of the host.
    """
    findings = [finding for result in results for finding in result.findings]
    by_code = {finding.code: finding for finding in findings if finding.severity != "info"}
    actions: tuple[tuple[str, frozenset[str], Callable[[], list[str]]], ...] = (
        ("load the kernel modules of the driver", MODULES, partial(_modules, host)),
        ("create the driver's missing device nodes", NODES | MODULES, partial(_nodes, host)),
        ("link the driver's nodes in /dev/char", LINKS, partial(_links, host)),
    )
    chosen = [
        Repair(title, by_code[min(codes & by_code.keys())], run)
        for title, codes, run in actions
        if codes & by_code.keys()
    ]
    closed = {finding.subject: finding for finding in findings if _is_closed_spec(host, finding)}
    chosen += [
        Repair(f"open {path} for reading (mode {MODE:04o})", finding, partial(_open, host, path))
        for path, finding in closed.items()
    ]
    differing = [finding for finding in findings if _is_refreshed(finding)]
    if differing:
        title = "write the specs of this host again, as cdi-gen refresh --force does"
        chosen.append(Repair(title, differing[0], partial(_refresh, host, settings)))
    return tuple(chosen)


def _is_refreshed(finding: Finding) -> bool:
    """Whether a refresh repairs a difference: in our own file, or because no spec exists."""
    if finding.code not in FRESHNESS:
        return False
    return not finding.subject.startswith("/") or installed_specs.is_own(finding.subject)


def _is_closed_spec(host: Host, finding: Finding) -> bool:
    path = finding.subject
    is_own = finding.code in UNREADABLE and installed_specs.is_own(path)
    return is_own and host.link(path) is None


def _modules(host: Host) -> list[str]:
    directories = roots(host.where)
    findings = modules.load(directories.driver)
    return [finding.message for finding in findings] or ["the modules are loaded"]


def _nodes(host: Host) -> list[str]:
    directories = roots(host.where)
    result = device_nodes.create(directories.host, directories.dev)
    verbs = {"absent": "created", "stale": "replaced"}
    messages = [
        f"{change.path} is {verbs[change.state]}"
        for change in result.changes
        if change.state in verbs and change.finding is None
    ]
    findings = [*result.findings, *(change.finding for change in result.changes if change.finding)]
    return messages + [finding.message for finding in findings]


def _links(host: Host) -> list[str]:
    directories = roots(host.where)
    nodes = dev_char.existing_nodes(directories.dev)
    links = dev_char.link(nodes, directories.host, directories.dev, directory=dev_char.DEFAULT)
    return [
        link.finding.message if link.finding else f"{dev_char.DEFAULT}/{link.name} is {link.action}"
        for link in links
        if link.finding or link.action != "kept"
    ]


def _open(host: Host, path: str) -> list[str]:
    """Change the mode of a spec file of ours; a link is not followed."""
    descriptor = os.open(
        host.root.open_path(host.root.resolve(path)),
        os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
    )
    try:
        os.fchmod(descriptor, MODE)
    finally:
        os.close(descriptor)
    return [f"{path} has the mode {MODE:04o}"]


def _refresh(host: Host, settings: Settings) -> list[str]:
    prefix = host.where.host_root.rstrip("/")
    chosen = settings._replace(output_directory=f"{prefix}{settings.output_directory}")
    layout = Layout(
        driver_root=host.where.driver_root,
        dev_root=host.where.dev_root,
        library_search_path=host.where.library_search_path,
        config_search_path=host.where.config_search_path,
        hook_path=host.where.hook_path,
        host_root=host.where.host_root,
    )
    outcome = update.refresh(
        Request(chosen, layout), force=True, state_directory=f"{prefix}{DIRECTORY}"
    )
    if outcome.no_driver:
        raise outcome.no_driver
    messages = [f"{new.path}: {new.summary}" for new in outcome.written]
    messages += [f"{path} is removed" for path in outcome.removed]
    return messages or ["the specs are right already"]
