# SPDX-License-Identifier: Apache-2.0
"""What the parts have in common: the host that they look at, and the section that each writes."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.gpu.several.containers import Runtime
from tests.gpu.several.gpus import Gpu, Seen

LONGEST = 240
"""Characters of a line in the transcript."""


class Host(NamedTuple):
    """This machine, and how it is to be looked at."""

    gpus: tuple[Gpu, ...]
    seen: Seen
    """Outside of containers."""
    programs: Path
    """Holds ``gpus``, compiled, where a daemon finds it too."""
    runtimes: Mapping[str, Runtime]
    specs: Mapping[str, Path]
    """Directories by form: hook, no-hook, nvidia; without those that this machine lacks."""
    folder: Path
    """In memory, in this mount namespace alone."""
    variables: Mapping[str, str]
    """Of the caller, for every container as they are."""
    rounds: int
    ddp_seconds: int
    docker_image: str
    docker_options: Sequence[str]
    nvidia_runtime: str | None
    """NVIDIA's nvidia-container-runtime."""

    @property
    def form(self) -> str:
        """The spec of containers where the form does not matter."""
        return "hook" if "hook" in self.specs else "no-hook"


class Section(NamedTuple):
    """What a part has to say."""

    title: str
    text: tuple[str, ...]
    """Lines of Markdown."""
    transcript: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """What is not as it should be; a program of the host that is not there is no fault."""


Part = Callable[[Host], Section]


def shown(title: str, output: str, most: int = 12) -> list[str]:
    """An output for the transcript: the end of it."""
    lines = output.replace("```", "'''").strip().splitlines()[-most:]
    return [f"### {title}", *(line[:LONGEST].rstrip() for line in lines), ""]


def command_line(words: Sequence[str]) -> str:
    """As a user would type it."""
    return shlex.join(words)


def page(about: Sequence[str], sections: Sequence[Section]) -> str:
    """All of it, as Markdown."""
    lines = ["# Several GPUs of one host", "", *(f"- {line}" for line in about), ""]
    faults = [f"{each.title}: {fault}" for each in sections for fault in each.faults]
    lines += [f"* **{fault}**" for fault in faults] or ["Everything is as it should be."]
    for each in sections:
        lines += ["", f"## {each.title}", "", *each.text]
    lines += ["", "## Transcript", "", "```"]
    for each in sections:
        lines += each.transcript
    return "\n".join([*lines, "```", ""])
