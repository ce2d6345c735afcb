# SPDX-License-Identifier: Apache-2.0
"""Reads quadlets as Podman's generator does, by the ``podman`` command line that it writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from cdi_base.cdi.names import is_qualified
from cdi_base.findings import Finding
from cdi_gen.why.command import unit_file
from cdi_gen.why.command.unit_file import Entry

SUFFIXES = {".container": "Container", ".build": "Build"}
"""The section of each kind of quadlet that starts a container or builds an image."""

_OPTIONS = {
    "Container": {
        "Annotation": "--annotation",
        "Environment": "--env",
        "EnvironmentFile": "--env-file",
        "GroupAdd": "--group-add",
        "Volume": "--volume",
        "AddCapability": "--cap-add",
    },
    "Build": {"GroupAdd": "--group-add", "Environment": "--env"},
}
"""The keys that become options which matter here; a value of the first two is split."""
_SPLIT = frozenset({"Annotation", "Environment"})
_SIMILAR = {"Device": "AddDevice", "Devices": "AddDevice", "GPUs": "AddDevice", "Gpus": "AddDevice"}
"""Keys that people write, and that Podman does not have."""


def command(text: str, path: str) -> tuple[list[str], list[Finding]]:
    """The command line of a quadlet, and what its generator rejects or leaves out."""
    section = SUFFIXES[os.path.splitext(path)[1]]
    listed = [*unit_file.entries(text)]
    findings = [*_unsupported(listed, section, path)]
    podman = ["podman"]
    for value in unit_file.all_values(listed, section, "GlobalArgs"):
        podman += unit_file.words(value)
    podman.append("run" if section == "Container" else "build")
    for key, option in _OPTIONS[section].items():
        for value in unit_file.all_values(listed, section, key):
            for word in unit_file.words(value) if key in _SPLIT else [value]:
                podman += [option, word]
    if section == "Container":
        for value in unit_file.all_values(listed, section, "AddDevice"):
            podman += _device(value, path, findings)
        if unit_file.last(listed, section, "SecurityLabelDisable").lower() in _TRUE:
            podman += ["--security-opt", "label=disable"]
    for value in unit_file.all_values(listed, section, "PodmanArgs"):
        podman += unit_file.words(value)
    if section == "Container":
        image = unit_file.last(listed, section, "Image")
        podman.append(image or unit_file.last(listed, section, "Rootfs") or "?")
        for value in unit_file.all_values(listed, section, "Exec"):
            podman += unit_file.words(value)
    else:
        podman.append(unit_file.last(listed, section, "SetWorkingDirectory") or ".")
    return podman, findings


_TRUE = frozenset({"1", "yes", "true", "on"})


def _device(value: str, path: str, findings: list[Finding]) -> list[str]:
    """The option of ``AddDevice``; none for a device that is left out because it does not exist.

    With a leading ``-`` the generator looks for a file of that name, and a name of CDI is none.
    """
    if not value.startswith("-"):
        return ["--device", value]
    name = value[1:]
    if is_qualified(name):
        message = (
            f"{path}: AddDevice={value}: with '-' Podman looks for a file {name}, finds none, and "
            "leaves the device out without a message"
        )
        fix = f"write AddDevice={name}"
        findings.append(Finding("CDG-Y122", "error", message, subject=path, fix=fix))
        return []
    return ["--device", name] if os.path.exists(name.partition(":")[0]) else []


def _unsupported(listed: list[Entry], section: str, path: str) -> Iterator[Finding]:
    for entry in listed:
        if entry.section != section:
            continue
        wrong = section == "Build" and entry.key == "AddDevice"
        if entry.key in _SIMILAR or wrong:
            right = f"PodmanArgs=--device {entry.value}" if wrong else f"AddDevice={entry.value}"
            message = (
                f"{path}, line {entry.line}: Podman has no key {entry.key} in [{section}], and "
                "makes no service of the file"
            )
            yield Finding("CDG-Y122", "error", message, subject=path, fix=f"write {right}")


def service_commands(text: str) -> Iterator[tuple[list[str], Mapping[str, str], str]]:
    """The commands of a plain service that start a program, with the variables of the unit.

    Yields:
        the words, the variables, and the key in the file.
    """
    listed = [*unit_file.entries(text)]
    variables: dict[str, str] = {}
    for value in unit_file.all_values(listed, "Service", "Environment"):
        for word in unit_file.words(value):
            name, _, rest = word.partition("=")
            variables[name] = rest
    for key in ("ExecStartPre", "ExecStart", "ExecStartPost"):
        for value in unit_file.all_values(listed, "Service", key):
            yield unit_file.words(value.lstrip("-@:+!|")), variables, key


def user_of(text: str) -> str:
    """The user of a service; empty: root, or for a user's unit that user."""
    return unit_file.last([*unit_file.entries(text)], "Service", "User")
