# SPDX-License-Identifier: Apache-2.0
"""The lock file of a fleet: the driver and GPUs of each host, CUDA and digest of each image.

A lock file is committed beside the list of images and changes with it, so that drivers and images
are upgraded as a unit. A host leaves it if its driver or its GPUs are others, an image if its
digest or its CUDA version is another one. Hosts come and go: a new host whose driver and GPUs are
those of a host of the lock file belongs to the fleet, and a host without an inventory is only
reported. The list of images is exact in both directions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cdi_base import strict_json
from cdi_base.findings import Finding
from cdi_gen.compat.fleet.matrix import HOST, IMAGE, Fleet, HostClass
from cdi_gen.errors import CdiGenError

FORMAT_VERSION = 1
MAX_BYTES = 64 << 20

Facts = dict[str, Any]
"""What is pinned of a host or an image: JSON values by name."""


class Lock(NamedTuple):
    """The content of a lock file."""

    hosts: Mapping[str, Facts]
    images: Mapping[str, Facts]


def lock_of(fleet: Fleet) -> Lock:
    """Return the lock of the hosts and images that were read."""
    return Lock(
        {
            host: facts
            for host_class in fleet.classes
            for facts in [_host(host_class)]
            for host in host_class.hosts
        },
        {
            row.facts.name: {
                "digest": [image.digest for image in row.variants if image.digest],
                "cuda": row.facts.cuda,
                "requirements": dict(row.facts.requirements),
            }
            for row in fleet.rows
        },
    )


def _host(host_class: HostClass) -> Facts:
    facts = host_class.facts
    return {
        "driver": facts.driver,
        "kernelModule": facts.kernel_module,
        "architecture": facts.architecture,
        "gpus": list(dict.fromkeys(gpu.name for gpu in facts.gpus)),
    }


def dump(lock: Lock) -> str:
    """Return the text of a lock file: a host or an image on each line, sorted by name."""
    objects = ",\n".join(
        f' "{name}": {_object(rows)}' for name, rows in zip(_FIELDS, lock, strict=True)
    )
    return f'{{\n "formatVersion": {FORMAT_VERSION},\n{objects}\n}}\n'


_FIELDS = ("hosts", "images")


def _object(rows: Mapping[str, Facts]) -> str:
    lines = [f"  {json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows)]
    return "{\n" + ",\n".join(lines) + "\n }" if lines else "{}"


def load(content: bytes, path: str) -> Lock:
    """Return the lock of a file's content.

    Raises:
        CdiGenError: the content is no lock file, or of a newer version.
    """
    try:
        document = strict_json.parse(content)
    except strict_json.JSONError as error:
        raise _invalid(path, f"not valid JSON: {error}") from error
    if not isinstance(document, dict) or set(document) != {"formatVersion", *_FIELDS}:
        raise _invalid(path, f"not an object with formatVersion, {' and '.join(_FIELDS)}")
    if document["formatVersion"] != FORMAT_VERSION:
        raise _invalid(path, f"this cdi-gen reads formatVersion {FORMAT_VERSION}")
    for field in _FIELDS:
        rows = document[field]
        if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
            raise _invalid(path, f".{field}: not an object of objects")
    return Lock(document["hosts"], document["images"])


def _invalid(path: str, reason: str) -> CdiGenError:
    return CdiGenError(
        f"{path} is not a lock file: {reason}",
        hint="name a file that does not exist, and cdi-gen writes it",
        code="CDG-M105",
        subject=path,
    )


def differences(lock: Lock, fleet: Fleet) -> list[Finding]:
    """Return what differs from the lock: an error if a host or an image leaves it, else a note."""
    unread = {(row.subject, row.name) for row in fleet.unreadable}
    present = lock_of(fleet)
    findings = [*_hosts(lock.hosts, present.hosts), *_images(lock.images, present.images)]
    return [each for each in findings if (each.source, each.subject) not in unread]


def _hosts(locked: Mapping[str, Facts], present: Mapping[str, Facts]) -> Iterator[Finding]:
    kinds = {json.dumps(facts) for facts in locked.values()}
    for name in sorted({*locked, *present}):
        if name not in present:
            yield _finding("info", HOST, name, "is in the lock file and has no inventory")
        elif name in locked:
            yield from _changes(HOST, name, locked[name], present[name])
        elif json.dumps(present[name]) not in kinds:
            text = ", ".join(f"{key} {_shown(value)}" for key, value in present[name].items())
            yield _finding("error", HOST, name, f"is not in the lock file, nor one like it: {text}")
        else:
            yield _finding("info", HOST, name, "is not in the lock file; another host like it is")


def _images(locked: Mapping[str, Facts], present: Mapping[str, Facts]) -> Iterator[Finding]:
    for name in sorted({*locked, *present}):
        if name not in present:
            yield _finding("error", IMAGE, name, "is in the lock file and not in the list")
        elif name not in locked:
            yield _finding("error", IMAGE, name, "is in the list and not in the lock file")
        else:
            yield from _changes(IMAGE, name, locked[name], present[name])


def _changes(subject: str, name: str, locked: Facts, present: Facts) -> Iterator[Finding]:
    changes = [
        f"{key} is {_shown(present.get(key))}, locked {_shown(locked.get(key))}"
        for key in dict.fromkeys([*present, *locked])
        if present.get(key) != locked.get(key)
    ]
    if changes:
        yield _finding("error", subject, name, f"has left the lock file: {'; '.join(changes)}")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else value if isinstance(value, str) else json.dumps(value)


def _finding(severity: Any, subject: str, name: str, text: str) -> Finding:
    return Finding("CDG-M106", severity, f"{subject} {name} {text}", subject=name, source=subject)
