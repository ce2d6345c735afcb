# SPDX-License-Identifier: Apache-2.0
"""Reads the services of a Compose file, as Docker Compose asks the Docker API for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.why.command import documents, env_file, misplaced
from cdi_gen.why.command.gpu_request import ALL, GpuRequest
from cdi_gen.why.command.request import SERVICE, ContainerRequest

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""The files that Compose reads by default, in this order."""

# Without a limit of the default, text with many `${` and no `}` takes quadratic time.
_VARIABLE = re.compile(
    r"\$(?:\$|(?P<plain>\w+)|\{(?P<name>\w+)(?P<default>:?[-?+][^}]{0,1024})?\})"
)
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def default_path(directory: str = ".") -> str:
    """The file that Compose reads in a directory.

    Raises:
        DescriptionError: there is none.
    """
    for name in NAMES:
        path = name if directory == "." else os.path.join(directory, name)
        if os.path.isfile(path):
            return path
    raise documents.DescriptionError(
        f"no {' or '.join(NAMES)} in {directory}",
        hint="name the file: cdi-gen why docker compose -f FILE up",
    )


def is_compose(document: documents.Table) -> bool:
    """Whether a document is a Compose file."""
    return isinstance(document.get("services"), dict) and "apiVersion" not in document


def read(
    document: documents.Table,
    path: str,
    *,
    engine: str = "docker",
    program: str = "docker-compose",
    environment: Mapping[str, str],
    swarm: bool = False,
    only: tuple[str, ...] = (),
    **common: Any,
) -> Iterator[ContainerRequest]:
    """The requests of the services.

    Args:
        document: the file.
        path: of the file.
        engine: that is asked.
        program: that reads the file.
        environment: whose variables are put in the place of ``${NAME}``.
        swarm: whether Swarm runs the services, by ``docker stack deploy``.
        only: the names of services; none: all.
        common: further fields of the requests.
    """
    variables = {**_dotenv(path), **environment}
    for name, service in documents.table(document, "services").items():
        if only and name not in only:
            continue
        values = documents.table(service)
        place = f"{path}: service {name}"
        findings = [*misplaced.reservations(values, place)]
        yield ContainerRequest(
            engine=engine,
            program=program,
            action=SERVICE if swarm else "run",
            source=place,
            image=_filled(documents.text(values.get("image")), variables),
            devices=tuple(_devices(values, variables)),
            gpus=tuple(_gpu_requests(values, variables, findings, place)),
            runtime=_filled(documents.text(values.get("runtime")), variables),
            environment=tuple(_environment(values, path, variables, findings)),
            annotations=tuple(
                (key, value or "") for key, value in documents.pairs(values.get("annotations"))
            ),
            mounts=tuple(_mounts(values)),
            privileged=values.get("privileged") is True,
            security_options=documents.texts(values.get("security_opt")),
            groups=documents.texts(values.get("group_add")),
            capabilities_added=documents.texts(values.get("cap_add")),
            generic_resources=tuple(_generic_resources(values)) if swarm else (),
            findings=tuple(findings),
            **common,
        )


def _devices(values: documents.Table, variables: Mapping[str, str]) -> Iterator[str]:
    for device in documents.items(values.get("devices")):
        if isinstance(device, dict):
            yield _filled(documents.text(device.get("source")), variables)
        else:
            yield _filled(documents.text(device), variables)


def _generic_resources(values: documents.Table) -> Iterator[str]:
    reservations = documents.table(values, "deploy", "resources", "reservations")
    for entry in documents.items(reservations.get("generic_resources")):
        if isinstance(entry, dict):
            yield documents.text(documents.table(entry, "discrete_resource_spec").get("kind"))


def _gpu_requests(
    values: documents.Table, variables: Mapping[str, str], findings: list[Finding], place: str
) -> Iterator[GpuRequest]:
    """The requests of ``deploy.resources.reservations.devices`` and of ``gpus``.

    ``gpus: all`` is short for one request; Compose adds the capability ``gpu`` to those of ``gpus``
    only, and asks for all devices if neither ``count`` nor ``device_ids`` is given.
    """
    reserved = documents.table(values, "deploy", "resources", "reservations").get("devices")
    for entry in documents.items(reserved):
        if isinstance(entry, dict):
            yield _gpu_request(entry, variables, findings, f"{place}: deploy…devices")
    gpus = values.get("gpus")
    if isinstance(gpus, str):
        yield GpuRequest(number=ALL, capabilities=("gpu",), key="gpus")
    for entry in documents.items(gpus):
        if isinstance(entry, dict):
            request = _gpu_request(entry, variables, findings, f"{place}: gpus")
            capabilities = (*(request.capabilities or ()), "gpu")
            yield request._replace(capabilities=capabilities, key="gpus")


def _gpu_request(
    entry: documents.Table, variables: Mapping[str, str], findings: list[Finding], place: str
) -> GpuRequest:
    table = documents.table(entry)
    devices = tuple(_filled(text, variables) for text in documents.texts(table.get("device_ids")))
    count = 0
    if "count" in table:
        text = _filled(documents.text(table["count"]), variables)
        if text.lower() == "all":
            count = ALL
        elif _NUMBER.fullmatch(text):
            count = int(text)
        else:
            message = f"{place}: count is {text!r}; it must be a number or all"
            findings.append(Finding("CDG-Y107", "error", message, subject="count"))
    elif "device_ids" not in table:
        count = ALL
    capabilities = table.get("capabilities")
    return GpuRequest(
        driver=_filled(documents.text(table.get("driver")), variables),
        number=count,
        devices=devices,
        capabilities=documents.texts(capabilities) or None,
        has_options=bool(table.get("options")),
        key="devices",
    )


def _environment(
    values: documents.Table, path: str, variables: Mapping[str, str], findings: list[Finding]
) -> Iterator[tuple[str, str]]:
    for entry in _env_files(values.get("env_file")):
        listed, more = env_file.read(os.path.join(os.path.dirname(path), entry), variables)
        yield from listed
        findings += more
    for name, value in documents.pairs(values.get("environment")):
        if value is not None:
            yield name, _filled(value, variables)
        elif name in variables:
            yield name, variables[name]


def _env_files(value: object) -> Iterator[str]:
    for entry in value if isinstance(value, list) else [value]:
        path = entry.get("path") if isinstance(entry, dict) else entry
        if documents.text(path):
            yield documents.text(path)


def _mounts(values: documents.Table) -> Iterator[tuple[str, str]]:
    for entry in documents.items(values.get("volumes")):
        if isinstance(entry, dict):
            yield documents.text(entry.get("source")), documents.text(entry.get("target"))
        else:
            source, _, rest = documents.text(entry).partition(":")
            yield source, rest.partition(":")[0]


def _dotenv(path: str) -> dict[str, str]:
    """The variables of ``.env`` beside the file that matter here."""
    file = os.path.join(os.path.dirname(path), ".env")
    return dict(env_file.read(file, {})[0]) if os.path.isfile(file) else {}


def _filled(text: str, variables: Mapping[str, str]) -> str:
    """A text with its variables: ``${NAME:-default}`` is the default if the variable is empty."""

    def value(match: re.Match[str]) -> str:
        name = match["plain"] or match["name"]
        if name is None:
            return "$"
        given = variables.get(name)
        default = match["default"] or ""
        if default.startswith(":-"):
            return given or default[2:]
        if default.startswith("-"):
            return default[1:] if given is None else given
        if default.startswith(":+"):
            return default[2:] if given else ""
        return given or ""

    return _VARIABLE.sub(value, text)
