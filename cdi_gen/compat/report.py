# SPDX-License-Identifier: Apache-2.0
"""Writes a verdict as text and as JSON, with the facts that it follows from; and the data's age."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from cdi_base.errors import printable
from cdi_base.findings import Finding
from cdi_gen.compat import data
from cdi_gen.compat.driver_rules import FORWARD_COMPAT, MINOR_VERSION, NATIVE, NO
from cdi_gen.compat.facts import CompatLibrary, DeviceCode, HostFacts, ImageFacts
from cdi_gen.compat.verdict import ABSENT, UNKNOWN, Verdict

HEADLINES = {
    NATIVE: "runs: the driver supports the image's CUDA",
    MINOR_VERSION: "runs, by minor-version compatibility",
    FORWARD_COMPAT: "runs, by forward compatibility",
    NO: "does not run",
    UNKNOWN: "not known",
}

MAX_NAMES = 12
"""The largest number of architectures in a line."""


def text(verdict: Verdict, image: ImageFacts, host: HostFacts) -> str:
    """Return the verdict for people."""
    rows = [
        ("image", image.name or "not an image, but the versions that were given"),
        ("", _image(image)),
        *(("", _compat(library)) for library in image.compat),
        *(("", line) for line in _code(image.device_code)),
        ("host", _host(host)),
        *(("", line) for line in _gpus(host)),
        ("verdict", HEADLINES[verdict.kind]),
        *_finding_rows(verdict.reasons, "because"),
        *_finding_rows(verdict.limits, "note"),
        ("require", _requirement(verdict)),
    ]
    return "".join(f"{title:<9}{printable(line)}".rstrip() + "\n" for title, line in rows if line)


def document(verdict: Verdict, image: ImageFacts, host: HostFacts) -> dict[str, Any]:
    """Return the verdict for programs."""
    return {
        "verdict": verdict.kind,
        "runs": None if verdict.kind == UNKNOWN else verdict.runs,
        "reasons": [finding.fields() for finding in verdict.reasons],
        "limits": [finding.fields() for finding in verdict.limits],
        "requirement": {
            "verdict": verdict.requirement,
            "reason": verdict.requirement_reason,
            "differs": verdict.differs,
        },
        "image": image_document(image),
        "host": host_document(host),
    }


def image_document(image: ImageFacts) -> dict[str, Any]:
    """Return the facts of an image for programs."""
    return {
        "name": image.name,
        "digest": image.digest,
        "architecture": image.architecture,
        "cuda": image.cuda,
        "cudaSource": image.cuda_source,
        "requirements": dict(image.requirements),
        "requirementsDisabled": image.requirements_disabled,
        "compat": [
            {
                "path": library.path,
                "driver": library.version,
                "note": None
                if library.note is None
                else {
                    "cuda": library.note.cuda,
                    "drivers": list(library.note.drivers),
                    "brands": list(library.note.brands),
                },
            }
            for library in image.compat
        ],
        "deviceCode": [
            {
                "path": code.path,
                "cubins": list(code.cubins),
                "ptx": list(code.ptx),
                "complete": code.complete,
            }
            for code in image.device_code
        ],
        "unread": list(image.unread),
    }


def host_document(host: HostFacts) -> dict[str, Any]:
    """Return the facts of a host for programs."""
    return {
        "name": host.name,
        "driver": host.driver,
        "cuda": host.cuda,
        "kernelModule": host.kernel_module,
        "architecture": host.architecture,
        "gpus": [
            {"name": gpu.name, "computeCapability": gpu.capability, "brand": gpu.brand}
            for gpu in host.gpus
        ],
    }


def ages(today: dt.date) -> list[dict[str, Any]]:
    """Return how old the tables are, oldest first."""
    return [
        {
            "file": source.file,
            "date": source.date.isoformat(),
            "ageDays": source.age_days(today),
            "old": source.age_days(today) > data.OLD_AFTER_DAYS,
            "source": source.source,
        }
        for source in data.sources()
    ]


def ages_text(today: dt.date) -> str:
    """Return how old the tables are, for people."""
    lines = []
    for row in ages(today):
        mark = "  old: update cdi-gen" if row["old"] else ""
        lines.append(f"{row['date']}  {row['ageDays']:>4} days  {row['file']}{mark}\n")
        lines.append(f"            {row['source']}\n")
    newest = max(data.first_drivers())
    branch = max(data.branches())
    lines.append(f"newest toolkit {data.text(newest)}, newest branch of the driver {branch}\n")
    return "".join(lines)


def _image(image: ImageFacts) -> str:
    cuda = f"CUDA {image.cuda} ({image.cuda_source})" if image.cuda else "CUDA version not known"
    parts = [cuda, image.architecture or "", (image.digest or "")[:19]]
    return ", ".join(part for part in parts if part)


def _compat(library: CompatLibrary) -> str:
    note = library.note
    if note is None:
        return f"{library.path}: no ELF note"
    branches = " ".join(map(str, note.drivers)) or "none"
    return f"{library.path}: CUDA {note.cuda or 'unknown'}, for driver branches {branches}"


def _code(code: Sequence[DeviceCode]) -> Iterator[str]:
    if not code:
        return
    everywhere = set.intersection(*(set(library.cubins) for library in code))
    ptx = set.intersection(*(set(library.ptx) for library in code))
    names = [name for name in code[0].cubins if name in everywhere]
    names += [name for name in code[0].ptx if name in ptx]
    shown = " ".join(names[:MAX_NAMES]) + (" …" if len(names) > MAX_NAMES else "")
    yield f"{len(code)} libraries with code for GPUs, all with: {shown or 'nothing in common'}"


def _host(host: HostFacts) -> str:
    name = f"{host.name}: " if host.name else ""
    if host.driver is None:
        return f"{name}no driver"
    cuda = f" (CUDA {host.cuda})" if host.cuda else ""
    kind = f", {host.kernel_module} kernel module" if host.kernel_module else ""
    return f"{name}driver {host.driver}{cuda}{kind}"


def _gpus(host: HostFacts) -> Iterator[str]:
    """Yield a line for each kind of GPU."""
    kinds: dict[tuple[str, str], int] = {}
    for gpu in host.gpus:
        model = gpu.name.partition("(")[2].removesuffix(")") or gpu.name
        kind = (model, gpu.capability or "unknown")
        kinds[kind] = kinds.get(kind, 0) + 1
    for (model, capability), count in kinds.items():
        yield f"{count} x {model}, compute capability {capability}"


def _finding_rows(findings: Sequence[Finding], title: str) -> Iterator[tuple[str, str]]:
    for finding in findings:
        yield title, f"{finding.message} [{finding.code}]"
        if finding.fix:
            yield "", f"fix: {finding.fix}"


def _requirement(verdict: Verdict) -> str:
    if verdict.requirement == ABSENT:
        return f"not checked: {verdict.requirement_reason}" if verdict.requirement_reason else ""
    return f"NVIDIA_REQUIRE_*: {verdict.requirement}: {verdict.requirement_reason}"
