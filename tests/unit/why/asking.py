# SPDX-License-Identifier: Apache-2.0
"""Engines that tests only tell of, and the answers for command lines on them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from cdi_gen.engines.machine import Machine
from cdi_gen.engines.status import CdiState, EngineStatus
from cdi_gen.why import mechanism
from cdi_gen.why.command import reading
from cdi_gen.why.command.request import ContainerRequest
from cdi_gen.why.mechanism import asked_engine, engine_facts

CDI_HOOK = "nvidia-cdi-hook"
PRESTART_HOOK = "nvidia-container-runtime-hook"
SHIM = ("nvidia", "/usr/bin/nvidia-container-runtime")


class Machines(Machine):
    """A machine with some programs and files."""

    def __init__(
        self,
        programs: Iterable[str] = (),
        files: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__({"PATH": "/usr/bin", **(environment or {})}, uid=0)
        self._programs = frozenset(programs)
        self._files = files or {}

    def find_program(self, name: str, directories: Iterable[str]) -> str | None:
        return f"/usr/bin/{name}" if name in self._programs else None

    def search_path(self, program: str) -> tuple[str, ...] | None:
        return None

    def exists(self, path: str) -> bool:
        return path.rpartition("/")[2] in self._programs or path in self._files

    def text(self, path: str) -> str | None:
        return self._files.get(path)

    def files(self, directory: str, suffix: str = "") -> tuple[str, ...]:
        return tuple(path for path in self._files if path.startswith(f"{directory}/"))

    def output(self, *command: str) -> str | None:
        return None


def engine(
    name: str,
    version: str,
    *,
    cdi: CdiState = "on",
    shim: bool = False,
    default: str = "",
    rootless: bool = False,
    directories: tuple[str, ...] = ("/nonexistent/cdi",),
) -> EngineStatus:
    """The status of an engine."""
    return EngineStatus(
        name,
        f"/usr/bin/{name}",
        version,
        rootless,
        cdi,
        "0.8.0",
        directories if cdi == "on" else (),
        "default",
        (SHIM,) if shim else (),
        (),
        default,
    )


def requests(command: str, environment: Mapping[str, str] | None = None) -> list[ContainerRequest]:
    """The requests of a command line, as the shell splits it."""
    return reading.requests(shlex.split(command), environment or {})


def request(command: str, environment: Mapping[str, str] | None = None) -> ContainerRequest:
    """The only request of a command line."""
    (found,) = requests(command, environment)
    return found


def ask(
    command: str,
    status: EngineStatus,
    *programs: str,
    files: Mapping[str, str] | None = None,
    image: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> mechanism.Answer:
    """The answer for a command line, or for the first container of a file."""
    found = requests(command)[0]
    chosen, findings = asked_engine.choose(found, [status], is_root=not status.rootless)
    if chosen is None:
        return mechanism.unseen(found, findings)
    machine = Machines(programs, files, environment)
    facts = engine_facts.read(chosen, machine, found.hooks_directories, found.program)
    return mechanism.decide(found, facts, image)


def codes(answer: mechanism.Answer) -> list[str]:
    """The codes of all that is wrong."""
    severities = ("error", "warning")
    return [finding.code for finding in answer.findings if finding.severity in severities]
