# SPDX-License-Identifier: Apache-2.0
"""Keeps the statuses of the container engines as JSON."""

from __future__ import annotations

from typing import Any

from cdi_base.findings import Finding
from cdi_gen import engines
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.status import EngineStatus


def ask(machine: Machine) -> list[dict[str, Any]]:
    """Return the JSON forms of the statuses of all installed engines."""
    return [document(status) for status in engines.statuses(machine)]


def document(status: EngineStatus) -> dict[str, Any]:
    """Return the JSON form of a status."""
    return status._asdict() | {
        "spec_directories": [*status.spec_directories],
        "runtimes": [[*runtime] for runtime in status.runtimes],
        "findings": [finding.fields() for finding in status.findings],
    }


def status_of(document: dict[str, Any]) -> EngineStatus:
    """Return the status of a JSON form."""
    fields = document | {
        "spec_directories": tuple(document["spec_directories"]),
        "runtimes": tuple((name, path) for name, path in document["runtimes"]),
        "findings": tuple(map(finding_of, document["findings"])),
    }
    return EngineStatus(**fields)


def finding_of(fields: dict[str, str]) -> Finding:
    """Return the finding of a JSON form, `Finding.fields`."""
    severity: Any = fields["severity"]
    return Finding(
        fields["code"],
        severity,
        fields["message"],
        **{name: fields[name] for name in ("subject", "fix", "source")},
    )
