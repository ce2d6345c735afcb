# SPDX-License-Identifier: Apache-2.0
"""Counts what a container gets: of CDI devices, and of what the shim or the hook is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cdi_base import PREPARED_DIRECTORY, PREPARED_NAME, files
from cdi_base.cdi import injection
from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_gen import store
from cdi_gen.cdi.document import to_document
from cdi_gen.paths import join
from cdi_gen.store import conversions
from cdi_gen.why.command.request import ContainerRequest
from cdi_gen.why.mechanism.answer import Injection
from cdi_gen.why.mechanism.engine_facts import EngineFacts
from cdi_runtime import request as runtime_request
from cdi_runtime.config_toml.settings import Configuration
from cdi_runtime.specs import prepared, resolution

_PREPARED = f"{PREPARED_DIRECTORY}/{PREPARED_NAME}"
_NOT_PREPARED = "the specs of this host are not prepared yet; the shim does it for a container"
_NVIDIA_VARIABLES = ("NVIDIA_", "CUDA_")
_SYS_ADMIN = "CAP_SYS_ADMIN"


def of_names(
    names: Sequence[str], engine: EngineFacts, directories: Sequence[str] = ()
) -> Injection | None:
    """What an engine injects for CDI devices; None if it cannot resolve one of them.

    Args:
        names: qualified names.
        engine: that resolves them.
        directories: that it reads instead of its own.
    """
    by_directory: list[list[dict[str, Any]]] = []
    for directory in directories or engine.status.spec_directories:
        registry = store.read((join(engine.host_root, directory),))
        by_directory.append([to_document(file.spec) for file in registry.files if file.spec])
    try:
        return _counted(injection.resolve(names, by_directory))
    except injection.UnresolvedError:
        return None


def requested_words(
    request: ContainerRequest,
    image_environment: Mapping[str, str],
    settings: Configuration,
    *,
    annotations: bool,
    added: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """The devices that the shim or the hook finds in a container's configuration, or the error."""
    config = _config(request, image_environment, added)
    try:
        found = runtime_request.read(
            config, settings, annotations=annotations, qualified_annotations=settings.mode == "auto"
        )
    except HookError as error:
        return (), (Finding(error.code, "error", str(error)),)
    return found.devices, found.warnings


def of_request(
    request: ContainerRequest,
    image_environment: Mapping[str, str],
    settings: Configuration,
    *,
    annotations: bool,
    added: Mapping[str, str] | None = None,
) -> tuple[Injection | None, tuple[Finding, ...]]:
    """What the shim or the prestart hook injects, as it resolves the request; or why nothing.

    Args:
        request: the container.
        image_environment: the variables of the image.
        settings: config.toml.
        annotations: whether the shim reads annotations; the hook does not.
        added: variables that the engine adds.
    """
    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        if finding.severity in ("warning", "error"):
            findings.append(finding)

    config = _config(request, image_environment, added)
    try:
        edits = resolution.edits(
            config, settings, annotations=annotations, report=report, load=_load
        )
    except prepared.NotPreparedError as error:
        message = f"what is injected is not known: {error}"
        fix = "sudo cdi-gen runtime prepare"
        return None, (*findings, Finding(error.code, "info", message, fix=fix))
    except HookError as error:
        return None, (*findings, Finding(error.code, "error", str(error)))
    return _counted(edits or []), tuple(findings)


def _config(
    request: ContainerRequest, image_environment: Mapping[str, str], added: Mapping[str, str] | None
) -> dict[str, Any]:
    """A container's config.json, as far as the shim reads it."""
    variables = {
        name: value
        for name, value in (*image_environment.items(), *request.environment)
        if name.startswith(_NVIDIA_VARIABLES) or name.startswith("DOCKER_RESOURCE")
    } | dict(added or {})
    added_capabilities = {name.upper().removeprefix("CAP_") for name in request.capabilities_added}
    is_privileged = request.privileged or not added_capabilities.isdisjoint({"SYS_ADMIN", "ALL"})
    capabilities = [_SYS_ADMIN] if is_privileged else []
    return {
        "process": {
            "env": [f"{name}={value}" for name, value in variables.items()],
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        "annotations": dict(request.annotations),
        "mounts": [{"source": source, "destination": target} for source, target in request.mounts],
    }


def _load(settings: Configuration, report: object, stamps: object = None) -> prepared.Prepared:
    """The prepared file as it is: unlike the shim, `why` has it not written again."""
    del report, stamps
    document: dict[str, Any] = {"problem": _NOT_PREPARED, "code": "CDG-R303"}
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads(files.read(_PREPARED, prepared.MAX_BYTES))
    converted = conversions.of_directories(settings.spec_dirs)
    return prepared.Prepared({**document, "converted": converted})


def _counted(edits: Iterable[Mapping[str, Any]]) -> Injection:
    """The numbers of different nodes, mounts, variables and hooks."""
    nodes: dict[str, None] = {}
    mounts: set[str] = set()
    variables: set[str] = set()
    hooks = 0
    for edit in edits:
        for node in edit.get("deviceNodes") or ():
            nodes[str(node.get("path"))] = None
        mounts |= {str(mount.get("containerPath")) for mount in edit.get("mounts") or ()}
        variables |= {str(text).partition("=")[0] for text in edit.get("env") or ()}
        hooks += len(edit.get("hooks") or ())
    return Injection(tuple(nodes), len(mounts), len(variables), hooks)
