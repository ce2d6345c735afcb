# SPDX-License-Identifier: Apache-2.0
"""Requests for GPUs that stand where no engine reads them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from cdi_base.findings import Finding
from cdi_gen.why.command import documents

_OPTIONS = ("--gpus", "--runtime", "--device")
_VALUES = {"--runtime": ("nvidia",), "--device": ("nvidia.com/", "/dev/nvidia")}
"""How the value starts: the program of a container may have options of the same name."""
_SECTIONS = ("deploy", "resources", "reservations", "limits")
_PLACE = "deploy.resources.reservations.devices"
_SERVICE = "devices"


def after_image(program: str, command: str, words: Sequence[str]) -> Iterator[Finding]:
    """The findings of options that stand after the image.

    Args:
        program: the engine's.
        command: of the program: run.
        words: the image, and what the container executes.
    """
    for start, end in spans(words):
        option = shlex.join(words[start:end])
        message = (
            f"{option} stands after the image {words[0]}: it is an argument of the container's "
            f"program, and {program} does not read it"
        )
        fix = f"put it before the image: {program} {command} {option} … {shlex.quote(words[0])}"
        yield Finding("CDG-Y121", "error", message, subject=words[start], fix=fix)


def spans(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where options that ask for GPUs stand among the image and the words after it."""
    for index, word in enumerate(words[1:], start=1):
        name, equals, value = word.partition("=")
        end = index + (1 if equals else 2)
        value = value if equals else "".join(words[index + 1 : end])
        if name in _OPTIONS and value.startswith(_VALUES.get(name, "")):
            yield index, end


def reservations(service: documents.Table, place: str) -> Iterator[Finding]:
    """The findings of lists of devices in the wrong section of a service.

    Args:
        service: of a Compose file.
        place: of the service, for the message.
    """
    for section in _sections(service, ""):
        if section == _PLACE:
            continue
        message = (
            f"{place}: {section}: Compose refuses a list of devices there, or ignores it; GPUs "
            f"are reserved in {_PLACE}, and nodes are named in {_SERVICE} of the service"
        )
        fix = f"move the entries of {section} to {_PLACE}"
        yield Finding("CDG-Y121", "error", message, subject=section, fix=fix)


def _sections(table: documents.Table, path: str) -> Iterator[str]:
    """The paths of the lists of devices in the sections of a service."""
    for key in _SECTIONS:
        section = table.get(key)
        name = f"{path}{key}"
        if isinstance(section, dict) and name.count(".") < len(_SECTIONS):
            if section.get("devices"):
                yield f"{name}.devices"
            yield from _sections(section, f"{name}.")
