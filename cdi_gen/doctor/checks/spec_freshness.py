# SPDX-License-Identifier: Apache-2.0
"""Whether the specs describe the host: the rules of ``cdi-gen check``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from shlex import quote

from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs, spec_facts
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.checks import spec_directories
from cdi_gen.doctor.host import Host
from cdi_gen.refresh import staleness
from cdi_gen.refresh.record import DIRECTORY, MAX_BYTES, NAME

RECORD = f"{DIRECTORY}/{NAME}"
CONFLICT = "CDG-F102"
"""The subject of another check."""
NO_DRIVER = "CDG-V101"
NO_DEVICE = "CDG-V109"


def examine(host: Host) -> Iterator[Finding]:
    """Yield what a container would get wrong, or not at all: one finding a code and file."""
    specs = installed_specs.effective(host)
    facts = spec_facts.read(host, {path for spec in specs.specs for path in spec.host_paths})
    if facts.driver_version is None and not specs.specs:
        raise NotApplicable("the host has neither a loaded driver nor a spec")
    explained = _explanation(host)
    by_code: dict[tuple[str, str], list[Finding]] = {}
    for finding in staleness.differences(specs, facts, _left_out(host)):
        if finding.code != CONFLICT and not (finding.code == NO_DEVICE and explained):
            key = (finding.code, finding.subject if finding.subject.startswith("/") else "")
            by_code.setdefault(key, []).append(finding)
    if not by_code and explained and not specs.specs:
        raise NotApplicable(f"engines read no spec of this host: see the check {explained}")
    for (code, path), findings in by_code.items():
        others = f"; and {len(findings) - 1} more like this" if len(findings) > 1 else ""
        fix = installed_specs.rewrite(path) if path else "sudo cdi-gen refresh --force"
        if code == NO_DRIVER:
            fix = f"sudo modprobe nvidia  # or remove the spec: sudo rm {quote(path)}"
        yield Finding(
            code, "error", f"{findings[0].message}{others}", subject=findings[0].subject, fix=fix
        )


def _explanation(host: Host) -> str:
    """Return the check that says why engines have no device of a GPU; empty if none does."""
    if any(spec_directories.examine(host)):
        return spec_directories.CHECK.name
    specs = installed_specs.effective(host)
    if specs.conflicts:
        return "spec-conflicts"
    return "spec-validity" if specs.ignored else ""


def _left_out(host: Host) -> tuple[str, ...]:
    """Return the devices that the last refresh left out as broken; another check names them."""

    def read() -> list[str]:
        try:
            document = json.loads(host.root.read_bytes(RECORD, MAX_BYTES))
            return [str(name) for name in document["left_out"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return []  # no refresh has run, or its record is not readable

    return tuple(host.fact("left out", read))


CHECK = Check(
    "spec-freshness", "specs", "the specs describe the driver and the GPUs of this host", examine
)
