# SPDX-License-Identifier: Apache-2.0
"""The engines of a host, or of the command line, as a request meets them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

from cdi_base.findings import Finding
from cdi_gen import engines
from cdi_gen.cdi import consumers
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
from cdi_gen.engines.status import EngineStatus
from cdi_gen.errors import UsageError
from cdi_gen.why.command.request import ContainerRequest
from cdi_gen.why.mechanism import asked_engine, engine_facts
from cdi_gen.why.mechanism.engine_facts import EngineFacts
from cdi_gen.why.readers import HostMachine, NamedMachine
from cdi_gen.why.user import ROOT, User, acting_as

Found = tuple[EngineFacts | None, tuple[Finding, ...]]


class HostEngines:
    """The engines of a host; each is asked once.

    Args:
        user: whose rootless engines count.
        environment: of this process.
        host_root: the path of the host's ``/``.
        named: engines of the command line, ``ENGINE@VERSION``, instead of the installed ones.
    """

    def __init__(
        self,
        user: User,
        environment: Mapping[str, str],
        host_root: str = "/",
        named: Sequence[str] = (),
    ) -> None:
        self._user = user
        self._environment = environment
        self._host_root = host_root
        self._named = named
        self._statuses: dict[str, list[tuple[EngineStatus, Machine]]] = {}

    def facts(self, request: ContainerRequest) -> list[Found]:
        """The engine that a request is for, or all that the user names.

        Raises:
            UsageError: no named engine is one that the request is for.
        """
        names = asked_engine.names_of(request)
        if not self._named:
            return [self._chosen(request, [pair for name in names for pair in self._of(name)])]
        found = []
        for text in self._named:
            name, _, version = text.partition("@")
            try:
                consumer = consumers.find(name)
            except consumers.UnknownConsumerError as error:
                raise UsageError(f"--engine: {error}", code="CDG-U003") from error
            if consumer.name in names:
                pairs = self._in_version(consumer.name, version or consumer.version)
                found.append(self._chosen(request, pairs))
        if not found:
            raise UsageError(
                f"--engine {' '.join(self._named)}: the command is one of {' or '.join(names)}",
                code="CDG-U003",
            )
        return found

    def _chosen(
        self, request: ContainerRequest, pairs: Sequence[tuple[EngineStatus, Machine]]
    ) -> Found:
        is_named = bool(self._named)
        is_root = self._user.uid == 0
        status, findings = asked_engine.choose(
            request, [status for status, _ in pairs], is_root=is_root, is_named=is_named
        )
        if status is None:
            return None, self._emulation(request) or findings
        machine = next(machine for found, machine in pairs if found is status)
        return (
            engine_facts.read(status, machine, request.hooks_directories, request.program),
            findings,
        )

    def _emulation(self, request: ContainerRequest) -> tuple[Finding, ...]:
        """The finding that the program docker of this host is Podman (package podman-docker)."""
        machine = HostMachine(dict(self._environment), 0, host_root=self._host_root)
        program = machine.program("docker") if request.program == "docker" else None
        if not program or self._named or not machine.trusts(program):
            return ()
        if "podman" not in (machine.output(program, "--version") or ""):
            return ()
        command = shlex.join(("podman", *request.rewriting.words[1:]))
        message = f"{program} of this host is Podman, which reads the command as its own"
        fix = f"cdi-gen why {command}"
        return (Finding("CDG-Y120", "warning", message, subject=program, fix=fix),)

    def _of(self, name: str) -> list[tuple[EngineStatus, Machine]]:
        if name not in self._statuses:
            environment, user, root = self._environment, self._user, self._host_root
            path = environment.get("PATH") or ":".join(USUAL_DIRECTORIES)
            # The endpoint of the caller is not that of the machine's own daemon.
            of_root = HostMachine({**ROOT.environment, "PATH": path}, 0, host_root=root)
            machines: list[tuple[Machine, bool]] = [(of_root, False)]
            if user.uid:
                is_calling = os.geteuid() == user.uid
                own = dict(environment) if is_calling else user.environment
                of_user = HostMachine(own, user.uid, host_root=root, runs_programs=is_calling)
                machines.append((of_user, True))
            self._statuses[name] = self._asked(name, machines)
        return self._statuses[name]

    def _in_version(self, name: str, version: str) -> list[tuple[EngineStatus, Machine]]:
        user, root = self._user, self._host_root
        of_root = NamedMachine(name, version, ROOT.environment, 0, root)
        machines: list[tuple[Machine, bool]] = [(of_root, False)]
        if user.uid:
            own = dict(self._environment) if os.geteuid() == user.uid else user.environment
            machines.append((NamedMachine(name, version, own, user.uid, root), True))
        return self._asked(name, machines)

    def _asked(
        self, name: str, machines: Sequence[tuple[Machine, bool]]
    ) -> list[tuple[EngineStatus, Machine]]:
        module = engines.engine(name)
        pairs: list[tuple[EngineStatus, Machine]] = []
        for machine, rootless in machines:
            with acting_as(self._user if rootless else ROOT):
                statuses = module.statuses(machine)
            pairs += [(status, machine) for status in statuses if status.rootless == rootless]
        return pairs
