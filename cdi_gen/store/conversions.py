# SPDX-License-Identifier: Apache-2.0
"""Converts spec files that are not JSON, for the shim, which reads JSON only."""

from __future__ import annotations

from collections.abc import Sequence

from cdi_base.cdi import spec_directories, specification
from cdi_gen.cdi import wire
from cdi_gen.cdi.problem import SpecError

Document = dict[str, object]


def of_directories(directories: Sequence[str]) -> dict[str, Document]:
    """Return the documents of spec files that are not JSON, or why every engine ignores them."""
    conversions: dict[str, Document] = {}
    for directory in directories:
        try:
            files = list(spec_directories.files(directory))
        except OSError:
            continue
        for file in files:
            content = file.content
            if content is not None and spec_directories.json_document(content) is None:
                conversions[file.path] = {"stamp": file.stamp, **_conversion(content)}
    return conversions


def _conversion(content: bytes) -> Document:
    try:
        document, text_faults = wire.read(content)
        valid_fields, faults = specification.judge(document, text_faults)
    except (SpecError, specification.TooMuchError) as error:
        return {"problem": str(error)}
    if specification.ignored_by(faults) == specification.EVERY:
        return {"problem": f"engines ignore it: {faults[0]}"}
    return {"document": valid_fields}
