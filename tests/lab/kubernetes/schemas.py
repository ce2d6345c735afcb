# SPDX-License-Identifier: Apache-2.0
"""JSON schemas of Kubernetes' objects, for kubeconform: from the OpenAPI document of a release."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab import go
from tests.lab.cache import cached
from tests.lab.kubernetes import programs

Schema = dict[str, Any]

_REFERENCE = "#/definitions/"
_KINDS = "x-kubernetes-group-version-kind"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_NAMES = "{{.ResourceKind}}{{.KindSuffix}}.json"
"""How kubeconform calls the schema of a kind, in a folder."""


def check(text: str, version: str) -> list[str]:
    """Return what kubeconform finds in YAML objects; a kind without a schema is an error.

    Args:
        text: the objects.
        version: of Kubernetes, one of ``programs.VERSIONS``.

    Raises:
        LabUnavailableError: kubeconform or the document cannot be had here.
    """
    location = f"{folder(version)}/{_NAMES}"
    options = ("-strict", "-output=json", f"-schema-location={location}")
    done = subprocess.run(
        [programs.kubeconform(), *options], input=text, check=False, capture_output=True, text=True
    )
    resources: list[dict[str, str]] = json.loads(done.stdout)["resources"]
    faults = [f"{one['kind']} {one['name']}: {one['msg']}" for one in resources]
    assert bool(faults) == (done.returncode != 0), done.stderr
    return faults


def folder(version: str) -> Path:
    """A folder with the schema of each kind of a release.

    Raises:
        LabUnavailableError: Go is missing, or does not get Kubernetes' sources.
    """

    def build(target: Path) -> None:
        sources = go.sources(programs.KUBERNETES, version)
        document = json.loads((sources / "api/openapi-spec/swagger.json").read_bytes())
        for name, schema in schemas(document["definitions"]):
            (target / name).write_text(json.dumps(schema), "utf-8")

    return cached(f"schemas-{version}", "strict, each with its definitions", build)


def schemas(definitions: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """Yield the schema of each kind, with the name of its file.

    Unlike the API server's own document, a schema refuses fields that the kind does not have.
    """
    strict = {name: _strict(schema) for name, schema in definitions.items()}
    strict[_INT_OR_STRING] = {"type": ["integer", "string"]}
    for name, schema in definitions.items():
        for kind in schema.get(_KINDS, ()):
            reachable = _reachable(name, strict)
            group = kind["group"].partition(".")[0]
            suffix = "-".join(filter(None, (kind["kind"].lower(), group, kind["version"])))
            own = {key: strict[key] for key in reachable}
            yield f"{suffix}.json", {"$ref": f"{_REFERENCE}{name}", "definitions": own}


def _strict(schema: Schema) -> Schema:
    if "properties" in schema:
        return {**schema, "additionalProperties": False}
    return schema


def _reachable(name: str, definitions: dict[str, Schema]) -> list[str]:
    """Return a definition and all that it refers to."""
    names, waiting = {name}, [name]
    while waiting:
        new = set(_references(definitions[waiting.pop()])) - names
        names |= new
        waiting += new
    return sorted(names)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "$ref" and isinstance(child, str):  # a property may have this name, too
                yield child.removeprefix(_REFERENCE)
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)
