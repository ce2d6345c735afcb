# SPDX-License-Identifier: Apache-2.0
"""Reads what the user asks about: a command line, or a file that describes containers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cdi_gen.why.command import (
    command_line,
    compose,
    documents,
    manifest,
    prefix,
    quadlet,
)
from cdi_gen.why.command.arguments import parse
from cdi_gen.why.command.command_line import Reading
from cdi_gen.why.command.option_table import table
from cdi_gen.why.command.request import ContainerRequest

_COMPOSE = "docker-compose"
_COMPOSE_OF = {"docker": _COMPOSE, "podman": "podman compose", "nerdctl": "nerdctl compose"}
"""The program that reads the file; `podman compose` starts docker-compose or podman-compose."""
_ENGINE_OF_COMPOSE = {"podman": "podman", "podman-compose": "podman", "nerdctl": "nerdctl"}


def is_command(words: Sequence[str]) -> bool:
    """Whether words are a command line, or the path of a file that describes containers."""
    return prefix.is_command_line(words) or (len(words) == 1 and is_description(words[0]))


def is_description(path: str) -> bool:
    """Whether a word is the path of a file, and not the name of a device."""
    return os.path.isfile(path) or path.endswith((*quadlet.SUFFIXES, ".service", ".yaml", ".yml"))


def requests(words: Sequence[str], environment: Mapping[str, str]) -> list[ContainerRequest]:
    """The requests of a command line, or of a file.

    Raises:
        UsageError: the command line starts no container.
        DescriptionError: a file cannot be read, or has no container.
    """
    if not prefix.is_command_line(words) and len(words) == 1:
        return _of_file(words[0], environment)
    first = prefix.split(words)
    if first.words and first.words[0] in (_COMPOSE, "podman-compose"):
        own = prefix.environment_of(first, environment)
        return _of_compose(first.words, 1, first.words[0], own, {"as_root": first.as_root})
    reading = command_line.read(words, environment)
    common: dict[str, Any] = {"as_root": reading.as_root, "endpoint": reading.endpoint}
    if reading.command == "compose":
        return _of_compose(
            reading.words, reading.start, reading.program, reading.environment, common
        )
    if reading.command == "stack deploy":
        return _of_stack(reading, common)
    if reading.command == "kube play":
        return _of_kube_play(reading)
    return [command_line.request_of(reading)]


def _of_compose(
    words: Sequence[str],
    start: int,
    program: str,
    environment: Mapping[str, str],
    common: dict[str, Any],
) -> list[ContainerRequest]:
    """The services of ``docker compose -f FILE up SERVICE``."""
    own = parse(words, table(_COMPOSE), interspersed=False, start=start)
    paths = own.all("file") or tuple(
        filter(None, environment.get("COMPOSE_FILE", "").split(os.pathsep))
    )
    directory = own.last("project-directory") or "."
    paths = paths or (compose.default_path(directory),)
    services: tuple[str, ...] = ()
    if own.positional:
        verb = own.positional[0]
        options = table(_COMPOSE, verb if verb in ("up", "run", "create") else "up")
        given = parse(words, options, interspersed=verb != "run", start=own.rest + 1)
        services = given.positional[:1] if verb == "run" else given.positional
    engine = _ENGINE_OF_COMPOSE.get(program, "docker")
    endpoint = own.last("host", environment.get("DOCKER_HOST", "") if engine == "docker" else "")
    common = {**common, "endpoint": endpoint or common.get("endpoint", "")}
    requested = [
        request
        for path in paths
        for document in documents.yaml_documents(documents.text_of(path), path)
        for request in compose.read(
            document,
            path,
            engine=engine,
            program=_COMPOSE_OF.get(program, program),
            environment=environment,
            only=services,
            **common,
        )
    ]
    return _some(requested, " ".join(paths))


def _of_stack(reading: Reading, common: dict[str, Any]) -> list[ContainerRequest]:
    arguments = reading.arguments()
    requested = [
        request
        for path in arguments.all("compose-file")
        for document in documents.yaml_documents(documents.text_of(path), path)
        for request in compose.read(
            document, path, environment=reading.environment, swarm=True, **common
        )
    ]
    return _some(requested, "docker stack deploy")


def _of_kube_play(reading: Reading) -> list[ContainerRequest]:
    words = reading.words[reading.start :]
    paths = [word for word in words if not word.startswith("-") and os.path.isfile(word)]
    requested = [
        replace(
            request,
            engine="podman",
            program="podman kube play",
            as_root=reading.as_root,
            endpoint=reading.endpoint,
        )
        for path in paths
        for request in manifest.read(documents.yaml_documents(documents.text_of(path), path), path)
    ]
    return _some(requested, " ".join(reading.words))


def _of_file(path: str, environment: Mapping[str, str]) -> list[ContainerRequest]:
    text = documents.text_of(path)
    suffix = os.path.splitext(path)[1]
    if suffix in quadlet.SUFFIXES:
        return [_of_quadlet(text, path, environment)]
    if suffix == ".service":
        return _some([*_of_service(text, path, environment)], path)
    found = documents.yaml_documents(text, path)
    requested: list[ContainerRequest] = []
    for document in found:
        if compose.is_compose(document):
            requested += compose.read(document, path, environment=environment)
    requested += manifest.read([each for each in found if manifest.is_manifest(each)], path)
    return _some(requested, path)


def _of_quadlet(text: str, path: str, environment: Mapping[str, str]) -> ContainerRequest:
    words, findings = quadlet.command(text, path)
    request = command_line.request_of(Reading(words, environment, _as_root(path)))
    return replace(
        request,
        program="quadlet",
        source=path,
        findings=(*findings, *request.findings),
    )


def _of_service(text: str, path: str, environment: Mapping[str, str]) -> Iterator[ContainerRequest]:
    for words, variables, key in quadlet.service_commands(text):
        line = prefix.split(words)
        if not line.words or line.words[0] not in ("podman", "docker", "nerdctl", "ctr"):
            continue
        reading = Reading(line.words, {**environment, **variables}, _as_root(path, text))
        if reading.command in ("run", "create", "build", "container create"):
            yield replace(command_line.request_of(reading), source=f"{path}: {key}")


def _as_root(path: str, text: str = "") -> bool | None:
    """Whether systemd runs a unit as root: one of the system does, unless it names a user."""
    user = quadlet.user_of(text)
    if user:
        return user in ("root", "0")
    absolute = os.path.abspath(path)
    if "/containers/systemd/users/" in absolute or "/systemd/user/" in absolute:
        return False
    system = absolute.startswith(("/etc/", "/usr/", "/run/systemd", "/lib/"))
    return True if system else None


def _some(requested: list[ContainerRequest], where: str) -> list[ContainerRequest]:
    if not requested:
        raise documents.DescriptionError(
            f"{where} describes no container that is known",
            hint="a Compose file, a Kubernetes manifest with a pod, a quadlet (.container, .build) "
            "or a unit (.service) with podman, docker, nerdctl or ctr",
        )
    return requested
