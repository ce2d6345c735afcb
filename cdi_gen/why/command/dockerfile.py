# SPDX-License-Identifier: Apache-2.0
"""Finds the devices that the steps of a Dockerfile ask for: ``RUN --device=NAME``."""

from __future__ import annotations

import re

from cdi_base import files
from cdi_gen.why.command.arguments import Arguments

MAX_BYTES = 1 << 20
_NAMES = ("Dockerfile", "Containerfile")
_RUN = re.compile(r"^\s*RUN\s+(?P<flags>(?:--\S+\s+)+)", re.IGNORECASE)
_DEVICE = re.compile(r"--device=(\S+)")


def devices(arguments: Arguments) -> tuple[str, ...]:
    """The devices of the Dockerfile that a build reads; none if it is not a file here."""
    context = arguments.positional[-1] if arguments.positional else "."
    file = arguments.last("file")
    paths = [file] if file else [f"{context}/{name}" for name in _NAMES]
    for path in paths:
        try:
            content = files.read(path, MAX_BYTES, follow=True)
        except (OSError, ValueError):
            continue
        return in_text(content.decode("utf-8", "replace"))
    return ()


def in_text(text: str) -> tuple[str, ...]:
    """The devices in the text of a Dockerfile: ``nvidia.com/gpu=all,required`` names one."""
    names = []
    for line in text.replace("\\\n", " ").splitlines():
        match = _RUN.match(line)
        for value in _DEVICE.findall(match["flags"]) if match else ():
            fields = dict.fromkeys(value.split(","))
            name = next((field for field in fields if field != "required"), "")
            names.append(name.removeprefix("name="))
    return tuple(dict.fromkeys(names))
