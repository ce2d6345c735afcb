# SPDX-License-Identifier: Apache-2.0
"""The standard's own JSON schema, applied.

It knows structure alone: no unknown fields, no names, no versions; and no engine applies it. It is
the second opinion of `cdi_gen.cdi.validation`, and what other tools of the standard go by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cdi_specs
from cdi_gen.cdi.problem import Problem

_LONGEST_MESSAGE = 200


def check(document: object) -> tuple[Problem, ...]:
    """Return what the standard's JSON schema finds wrong with ``document``."""
    import jsonschema  # noqa: PLC0415  80 ms that only checking has to pay

    validator = jsonschema.Draft7Validator(_schema())
    return tuple(
        problem for error in validator.iter_errors(document) for problem in _problems(error)
    )


def _schema() -> dict[str, Any]:
    """The schema and its definitions in one: nothing is left to look up, on disk or elsewhere."""
    text = cdi_specs.read_text("schema.json").replace('"defs.json#/', '"#/')
    schema: dict[str, Any] = json.loads(text)
    schema["definitions"] = json.loads(cdi_specs.read_text("defs.json"))["definitions"]
    return schema


def _problems(error: Any) -> Iterator[Problem]:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.path)
    if error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                yield _problem(f"{path}.{key}", "missing")
    elif error.validator == "type":
        yield _problem(path or ".", f"must be of type {error.validator_value}")
    else:
        yield _problem(path or ".", error.message[:_LONGEST_MESSAGE])


def _problem(path: str, message: str) -> Problem:
    return Problem(
        path=path,
        message=message,
        consequence="the standard's JSON schema refuses it; engines do not apply the schema",
        severity="warning",
        code="CDG-S104",
    )
