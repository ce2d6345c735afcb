# SPDX-License-Identifier: Apache-2.0
"""Whether each device is defined once: conflicts, and files that newer ones override."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check
from cdi_gen.doctor.host import Host
from cdi_gen.refresh.effective_specs import is_of_nvidia
from cdi_gen.store import conflicts

NAMES_SHOWN = 4


def examine_conflicts(host: Host) -> Iterator[Finding]:
    """Yield the devices that files of one directory define."""
    files = {file.path: file for file in installed_specs.registry(host).files}
    for conflict in installed_specs.require_files(host).conflicts:
        choice = conflicts.choose(
            [files[path] for path in conflict.paths], lambda path: _modified(host, path)
        )
        yield Finding(
            "CDG-F102",
            "error",
            f"{' and '.join(conflict.paths)} define {_listed(conflict.names)}: engines cannot "
            'resolve any of these names ("unresolvable CDI devices")',
            subject=conflict.names[0],
            fix=f"sudo rm {' '.join(map(quote, choice.obsolete))}  # {choice.kept} {choice.reason}",
        )


def _modified(host: Host, path: str) -> float:
    status = host.status(path)
    return status.modified if status else 0


def examine_older_files(host: Host) -> Iterator[Finding]:
    """Yield the files that others override, above all those whose other devices live on."""
    installed_specs.require_files(host)
    shadowed: dict[str, tuple[str, list[str]]] = {}
    alive: dict[str, list[str]] = {}
    for resolution in installed_specs.registry(host).devices:
        if resolution.file is None or not is_of_nvidia(resolution.name.partition("=")[0]):
            continue
        alive.setdefault(resolution.file.path, []).append(resolution.name)
        for file in resolution.shadowed:
            shadowed.setdefault(file.path, (resolution.file.path, []))[1].append(resolution.name)
    for path, (later, names) in shadowed.items():
        if path in alive:
            yield Finding(
                "CDG-A202",
                "warning",
                f"{path} is an older spec: {later} defines {len(names)} of its devices, but "
                f"{_listed(alive[path])} {'is' if len(alive[path]) == 1 else 'are'} still taken "
                "from the older file",
                subject=path,
                fix=f"sudo rm {quote(path)}",
            )
        else:
            yield Finding(
                "CDG-F104",
                "info",
                f"{path} has no effect: {later} defines all of its devices",
                subject=path,
                fix=f"sudo rm {quote(path)}",
            )


def _listed(names: list[str] | tuple[str, ...]) -> str:
    others = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {others} others" if others > 0 else "")


CHECKS = (
    Check("spec-conflicts", "specs", "no two files define the same device", examine_conflicts),
    Check(
        "older-specs",
        "specs",
        "no older spec file lies under a newer one",
        examine_older_files,
    ),
)
