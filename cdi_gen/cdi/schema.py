# SPDX-License-Identifier: Apache-2.0
"""Checks a document against the standard's JSON schema.

The schema describes the structure only: neither unknown fields nor names nor versions. No engine
applies the schema, but other tools do; `cdi_gen.cdi.validation` uses it as a second opinion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cdi_specs
from cdi_gen.cdi.problem import Problem

_LONGEST_MESSAGE = 200


def check(document: object) -> tuple[Problem, ...]:
    """Return the violations of the standard's JSON schema in ``document``, as warnings."""
    import jsonschema  # noqa: PLC0415  the import takes 80 ms

    validator = jsonschema.Draft7Validator(_schema())
    return tuple(
        problem for error in validator.iter_errors(document) for problem in _problems(error)
    )


def _schema() -> dict[str, Any]:
    """The schema with its definitions inside, so that jsonschema has no reference to resolve."""
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
        consequence="the standard's JSON schema rejects this; engines do not apply the schema",
        severity="warning",
        code="CDG-S104",
    )
