# SPDX-License-Identifier: Apache-2.0
"""The result as JSON, a record on each line, so that two results can be compared line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from cdi_gen.compat import data
from cdi_gen.compat.facts import HostGpu
from cdi_gen.compat.fleet import marks
from cdi_gen.compat.fleet.matrix import Fleet, HostClass, ImageRow, Unreadable
from cdi_gen.compat.verdict import Verdict

FORMAT_VERSION = 1


def render(fleet: Fleet) -> str:
    """Return the result as a JSON object; docs/compat.md describes its fields."""
    summary = {
        "hosts": fleet.hosts,
        "hostClasses": len(fleet.classes),
        "images": len(fleet.rows),
        "pairs": fleet.counts(),
    }
    fields = (
        ("formatVersion", str(FORMAT_VERSION)),
        ("data", _list(_source(source) for source in data.sources())),
        ("summary", json.dumps(summary)),
        ("hostClasses", _list(map(_host_class, fleet.classes))),
        ("images", _list(map(_image, fleet.rows))),
        ("cells", _list(_cells(fleet))),
        ("details", _list(map(_detail, fleet.verdicts))),
        ("unreadable", _list(map(_unreadable, fleet.unreadable))),
    )
    return "{\n" + ",\n".join(f' "{name}": {text}' for name, text in fields) + "\n}\n"


def _list(records: Iterable[dict[str, Any]]) -> str:
    lines = ",\n".join(f"  {json.dumps(record)}" for record in records)
    return f"[\n{lines}\n ]" if lines else "[]"


def _source(source: data.Source) -> dict[str, Any]:
    return {"file": source.file, "date": source.date.isoformat(), "source": source.source}


def _host_class(host_class: HostClass) -> dict[str, Any]:
    facts = host_class.facts
    return {
        "class": host_class.label,
        "driver": facts.driver,
        "cuda": facts.cuda,
        "kernelModule": facts.kernel_module,
        "architecture": facts.architecture,
        "gpus": [_gpu(gpu) for gpu in facts.gpus],
        "hosts": list(host_class.hosts),
    }


def _gpu(gpu: HostGpu) -> dict[str, Any]:
    return {"model": gpu.name, "computeCapability": gpu.capability, "brand": gpu.brand}


def _image(row: ImageRow) -> dict[str, Any]:
    return {
        "image": row.facts.name,
        "digests": [image.digest for image in row.variants if image.digest],
        "architectures": [image.architecture for image in row.variants if image.architecture],
        "cuda": row.facts.cuda,
        "requirements": dict(row.facts.requirements),
    }


def _cells(fleet: Fleet) -> Iterator[dict[str, Any]]:
    for row in fleet.rows:
        for host_class, cell in zip(fleet.classes, row.cells, strict=True):
            yield {
                "image": row.facts.name,
                "class": host_class.label,
                "verdict": fleet.verdicts[cell].kind,
                "detail": cell,
            }


def _detail(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.kind,
        "severity": marks.severity(verdict),
        "reasons": [finding.fields() for finding in verdict.reasons],
        "limits": [finding.fields() for finding in verdict.limits],
        "requirement": verdict.requirement,
    }


def _unreadable(row: Unreadable) -> dict[str, Any]:
    return {"subject": row.subject, "name": row.name, "reason": row.reason.fields()}
