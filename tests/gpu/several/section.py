# SPDX-License-Identifier: Apache-2.0
"""The input and the output of every part: the host, and a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.gpu.several.containers import Runtime
from tests.gpu.several.gpus import Gpu, Listing

LINE_LENGTH = 240
"""Characters of a transcript's line that are kept."""


class Host(NamedTuple):
    """This machine, and the options of the run."""

    gpus: tuple[Gpu, ...]
    listing: Listing
    """Of NVML and CUDA outside of containers."""
    programs: Path
    """The directory of the compiled ``gpus``. The Docker daemon can mount it."""
    runtimes: Mapping[str, Runtime]
    specs: Mapping[str, Path]
    """Directories by form of spec: hook, no-hook, nvidia. A form that is unavailable is missing."""
    folder: Path
    """In memory, and visible in this mount namespace only."""
    variables: Mapping[str, str]
    """Variables that every container gets unchanged."""
    rounds: int
    ddp_seconds: int
    docker_image: str
    docker_options: Sequence[str]
    nvidia_runtime: str | None
    """The path of NVIDIA's nvidia-container-runtime."""
    strace: Path | None = None
    """The file for the system calls of one hook."""
    load: Path | None = None
    """The program that uses the GPUs; None: a loop of PyTorch."""

    @property
    def form(self) -> str:
        """The form of spec for parts that do not compare the forms."""
        return "hook" if "hook" in self.specs else "no-hook"


class Section(NamedTuple):
    """The result of a part."""

    title: str
    text: tuple[str, ...]
    """Lines of Markdown."""
    transcript: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """Unexpected results. A program that the host lacks is not a fault."""


Part = Callable[[Host], Section]


def transcript_entry(title: str, output: str, line_count: int = 12) -> list[str]:
    """Return the last lines of an output, with a title, for the transcript."""
    lines = output.replace("```", "'''").strip().splitlines()[-line_count:]
    return [f"### {title}", *(line[:LINE_LENGTH].rstrip() for line in lines), ""]


def page(about: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the whole page as Markdown."""
    lines = ["# Several GPUs of one host", "", *(f"- {line}" for line in about), ""]
    faults = [f"{section.title}: {fault}" for section in sections for fault in section.faults]
    lines += [f"* **{fault}**" for fault in faults] or ["No faults."]
    for section in sections:
        lines += ["", f"## {section.title}", "", *section.text]
    lines += ["", "## Transcript", "", "```"]
    for section in sections:
        lines += section.transcript
    return "\n".join([*lines, "```", ""])
