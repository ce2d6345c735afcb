# SPDX-License-Identifier: Apache-2.0
"""The answer for a device name and an engine: whether a container gets the device, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from cdi_base.cdi import SPEC_DIRECTORIES, names
from cdi_base.findings import Finding
from cdi_gen.engines import spec_directories
from cdi_gen.inventory import Inventory
from cdi_gen.why import advice, contents, other_names, start
from cdi_gen.why.lookup import Lookup, follows_links, look_up, refusal
from cdi_gen.why.other_names import Defined
from cdi_gen.why.readers import Reader
from cdi_gen.why.spec_files import Host

Outcome = Literal["works", "broken", "fails", "unresolved", "unknown"]
"""``broken``: a container starts, and the device does not work. ``fails``: it does not start.
``unresolved``: the engine does not know the device. ``unknown``: this process may not see it."""

BUILD_READS_FEWER = "CDG-E115"
"""The code of a finding that names the directories which an engine reads for a build."""

RANK: dict[Outcome, int] = {"unresolved": 0, "fails": 1, "broken": 2, "unknown": 3, "works": 4}
"""The worst first."""


class Answer(NamedTuple):
    """What an engine makes of a device name."""

    name: str
    reader: Reader
    outcome: Outcome
    lookup: Lookup | None
    """None if the engine does not take the name for that of a device."""
    findings: tuple[Finding, ...]
    """What settles the outcome first; then what else is wrong, and notes."""

    @property
    def file(self) -> str | None:
        """The file that the name is resolved to."""
        definition = self.lookup.definition if self.lookup else None
        return definition.file.path if definition else None


def answers(
    requested: Iterable[str],
    readers: Iterable[Reader],
    host: Host,
    inventory: Callable[[], Inventory | None],
) -> list[Answer]:
    """Return the answers for device names, the worst first for each name.

    Args:
        requested: the names as the user gave them.
        readers: the engines.
        host: the host's files.
        inventory: gathers the inventory of the host; None if it has no driver.
    """
    readers = [*readers]
    elsewhere = tuple(
        dict.fromkeys(
            (*SPEC_DIRECTORIES, *(path for reader in readers for path in reader.directories))
        )
    )
    result = []
    for name in requested:
        of_name = [answer(name, reader, host, elsewhere, inventory) for reader in readers]
        result += sorted(of_name, key=lambda item: RANK[item.outcome])
    return result


def answer(
    name: str,
    reader: Reader,
    host: Host,
    elsewhere: Iterable[str],
    inventory: Callable[[], Inventory | None],
) -> Answer:
    """Return the answer of one engine for one name.

    Args:
        name: the name as the user gave it.
        reader: the engine.
        host: the host's files.
        elsewhere: directories that other engines read.
        inventory: gathers the inventory of the host; None if it has no driver.
    """
    elsewhere = (*elsewhere,)
    if not names.is_qualified(name):
        return _unqualified(name, reader, host, elsewhere, inventory)
    lookup = look_up(name, reader, host, elsewhere)
    if lookup.definition is None:
        findings = [*(advice.unreadable_configuration(reader) or lookup.findings)]
        has_cdi = reader.cdi not in {"no", "off"}
        if has_cdi and not any(finding.severity == "error" for finding in findings):
            findings = [_undefined(name, reader, host, elsewhere, inventory)]
        outcome: Outcome = "unresolved" if lookup.is_complete else "unknown"
        if not lookup.is_complete:
            findings.insert(0, _unseen(reader))
        about = [finding for finding in _about(reader) if finding.code not in advice.SYNTAX_ERRORS]
        return Answer(name, reader, outcome, lookup, (*findings, *about))
    definition = lookup.definition
    obstacles = start.obstacles(definition.file, name, reader, host)
    findings = [obstacle.finding for obstacle in obstacles]
    effects = {obstacle.effect for obstacle in obstacles}
    notes = [*lookup.findings, *_about(reader, definition.file.path)]
    if reader.has_daemon and host.is_link(definition.file.path) and not follows_links(reader):
        notes.append(advice.unnoticed_link(reader, definition.file.path))
    if definition.edits.additional_gids and reader.drops_groups:
        notes.append(advice.dropped_groups(reader, definition.file.path))
    if names.vendor_of(name) == "nvidia.com":
        gathered = inventory()
        if gathered:
            path = definition.file.path
            notes = [
                *other_names.notes(name, definition.edits, path, gathered),
                *contents.remarks(name, definition.edits, path, gathered),
                *notes,
            ]
    wrong = [note for note in notes if note.severity == "error"]
    outcome = "works"
    depends_on_version = reader.library is None and any(
        problem.partly_refused_by for problem in definition.file.problems
    )
    is_unsure = reader.cdi == "unknown" or depends_on_version or not lookup.is_complete
    if "fails" in effects:
        outcome = "fails"
    elif "broken" in effects or wrong:
        outcome = "broken"
    elif "unknown" in effects or is_unsure:
        outcome = "unknown"
    if is_unsure:
        findings.append(_unseen(reader))
    notes = [note for note in notes if note.severity != "error"]
    return Answer(name, reader, outcome, lookup, (*findings, *wrong, *notes))


def _about(reader: Reader, path: str = "") -> Iterator[Finding]:
    """What is wrong with the engine's configuration and concerns the file that is used."""
    for finding in reader.findings:
        directory = spec_directories.normalized(path.rpartition("/")[0])
        is_read = directory in map(spec_directories.normalized, finding.message.split())
        if finding.code != BUILD_READS_FEWER or (path and not is_read):
            yield finding


def _unqualified(
    name: str,
    reader: Reader,
    host: Host,
    elsewhere: tuple[str, ...],
    inventory: Callable[[], Inventory | None],
) -> Answer:
    if reader.cdi in {"no", "off"}:
        return Answer(name, reader, "unresolved", None, (advice.without_cdi(reader),))
    reason = names.fault_of_qualified(name)
    similar = other_names.suggestion(name, _defined(reader, host, elsewhere), inventory())
    if similar and similar.code == "CDG-U009":
        return Answer(name, reader, "unresolved", None, (similar,))
    finding = Finding(
        "CDG-U009",
        "error",
        f"{reason}: {reader.label} takes it for the path of a device node",
        subject=name,
        fix=similar.fix if similar else "--device nvidia.com/gpu=all",
    )
    return Answer(name, reader, "unresolved", None, (finding,))


def _undefined(
    name: str,
    reader: Reader,
    host: Host,
    elsewhere: tuple[str, ...],
    inventory: Callable[[], Inventory | None],
) -> Finding:
    """No file defines the name: the name that was meant, or how to write a spec."""
    defined = [*_defined(reader, host, elsewhere)]
    similar = other_names.suggestion(name, defined, inventory()) if defined else None
    if similar:
        return similar
    has_driver = names.vendor_of(name) != "nvidia.com" or inventory() is not None
    return advice.undefined(reader, name, has_driver=has_driver)


def _defined(reader: Reader, host: Host, elsewhere: tuple[str, ...]) -> Iterable[Defined]:
    """The devices that the engine could resolve; if there are none, those of other engines."""
    for paths in (reader.directories, elsewhere):
        devices = {
            f"{file.spec.kind}={device.name}": Defined(
                f"{file.spec.kind}={device.name}", device, file.spec
            )
            for path in paths
            for file in host.directory(path).files
            if file.spec and refusal(file, reader) is None
            for device in file.spec.devices
        }
        if devices:
            return devices.values()
    return ()


def _unseen(reader: Reader) -> Finding:
    if reader.version is None:
        message = f"the version of {reader.engine} is not known, and the answer depends on it"
        fix = f"name the version: --engine {reader.engine}@VERSION"
    else:
        message = f"not everything that {reader.title} reads can be seen by this user"
        fix = "run the command as root: sudo cdi-gen why …"
    return Finding("CDG-Y003", "info", message, subject=reader.engine, fix=fix)
