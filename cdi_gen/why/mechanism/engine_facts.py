# SPDX-License-Identifier: Apache-2.0
"""What the mechanism depends on: an engine, its configuration, and the programs that it finds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from cdi_base import PRESTART_HOOK, nvidia
from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import facts
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine, printed_version
from cdi_gen.engines.runtimes import is_nvidia
from cdi_gen.engines.status import EngineStatus
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import base_name, join
from cdi_gen.why.readers import HostMachine
from cdi_runtime.config_toml import configuration
from cdi_runtime.config_toml.settings import Configuration

CONTAINER_CLI = "nvidia-container-cli"
COMPOSE, PODMAN_COMPOSE = "docker-compose", "podman compose"
_GPU_HOOKS = (nvidia.PRESTART_HOOK, nvidia.OLD_PRESTART_HOOK, PRESTART_HOOK)
_ENFORCES = "/sys/fs/selinux/enforce"
_BY_COMPOSE = (COMPOSE, PODMAN_COMPOSE)
_SYNTAX_ERRORS = ("CDG-E002", "CDG-E003")
_OF_BUILT_IN = ("runc", "crun", "io.containerd.runc.v2")


class EngineFacts(NamedTuple):
    """An engine as the mechanisms see it."""

    status: EngineStatus
    cdi_program: str | None = None
    """``nvidia-cdi-hook`` in the PATH of dockerd."""
    hook_program: str | None = None
    """``nvidia-container-runtime-hook`` in the PATH of dockerd."""
    cli_program: str | None = None
    """``nvidia-container-cli``."""
    hook_files: tuple[str, ...] = ()
    """The files of hooks.d that run NVIDIA's or our prestart hook."""
    bad_hook_files: tuple[tuple[str, str], ...] = ()
    """The files of hooks.d for which the engine starts no container, and the program that each
    names and that does not exist; empty for a file that is not valid."""
    settings: Configuration | None = None
    """config.toml of the shim and the prestart hook; None: it cannot be read."""
    settings_fault: Finding | None = None
    """Why it cannot be read."""
    selinux: bool = False
    """Whether SELinux is enforcing."""
    paths: tuple[str, ...] = USUAL_DIRECTORIES
    """Where the daemon looks for programs."""
    compose_version: str | None = None
    """The version of Docker Compose, if the request is one of it."""
    host_root: str = "/"
    """Where the files of the host are."""

    @property
    def title(self) -> str:
        """The engine in messages: ``docker 28.5.2``."""
        status = self.status
        mode = " (rootless)" if status.rootless else ""
        return f"{self.label}{mode}"

    @property
    def label(self) -> str:
        """The engine and its version."""
        return " ".join(filter(None, (self.status.engine, self.status.version)))

    @property
    def unreadable_configuration(self) -> tuple[Finding, ...]:
        """The errors in the syntax of the engine's files."""
        return tuple(finding for finding in self.status.findings if finding.code in _SYNTAX_ERRORS)

    def since(self, version: str) -> bool:
        """Whether the engine is of this version or later; an unknown version is."""
        return at_least(self.status.version, version, unknown=True)

    def shim(self, name: str) -> str | None:
        """The program of a runtime if it is NVIDIA's shim or ours.

        Args:
            name: the runtime's name or path; empty: the default runtime.
        """
        name = name or self.status.default_runtime
        if name.startswith("/"):
            return name if is_nvidia("", name) else None
        program = dict(self.status.runtimes).get(name)
        if program is not None:
            return program or name
        return None

    def has_older_compose(self, program: str) -> bool:
        """Whether the request is one of a Compose that knows neither CDI nor ``gpus``."""
        since = facts.docker().compose_gpus_since
        is_compose = program == COMPOSE or self.compose_version is not None
        return is_compose and not at_least(self.compose_version, since, unknown=True)

    def by_api(self, program: str) -> bool:
        """Whether a Compose file reaches Podman by Docker's API, and not by its command line."""
        return program == COMPOSE or (program == PODMAN_COMPOSE and bool(self.compose_version))

    def knows_runtime(self, name: str) -> bool:
        """Whether the engine has a runtime; only NVIDIA's and the built-in ones are known here."""
        return (
            not name
            or name.startswith("/")
            or name in _OF_BUILT_IN
            or not is_nvidia(name, "")
            or name in dict(self.status.runtimes)
        )


def read(
    status: EngineStatus,
    machine: Machine,
    hooks_directories: Sequence[str] = (),
    program: str = "",
) -> EngineFacts:
    """Read what an engine would find on this machine.

    Args:
        status: of the engine.
        machine: whose files and programs it finds.
        hooks_directories: those of ``podman --hooks-dir``, which replace the default one.
        program: that asks the engine.
    """
    docker = facts.docker()
    paths = machine.search_path("dockerd") if status.engine == "docker" else None
    paths = paths or USUAL_DIRECTORIES
    host_root = machine.host_root if isinstance(machine, HostMachine) else "/"
    settings, fault = _settings(machine, host_root)
    hook_programs: dict[str, str] = {}
    if status.engine in ("podman", "crio"):
        directories = hooks_directories or (facts.podman().hooks_directory,)
        hook_programs = _hook_programs(directories, machine)
    bad_hook_files = {
        path: program
        for path, program in hook_programs.items()
        if not program or not machine.exists(program)
    }
    return EngineFacts(
        status,
        cdi_program=machine.find_program(docker.gpus_by_cdi_program, paths),
        hook_program=machine.find_program(docker.gpus_by_hook_program, paths),
        cli_program=machine.find_program(CONTAINER_CLI, USUAL_DIRECTORIES),
        hook_files=tuple(
            path
            for path, program in hook_programs.items()
            if base_name(program) in _GPU_HOOKS and path not in bad_hook_files
        ),
        bad_hook_files=tuple(bad_hook_files.items()),
        settings=settings,
        settings_fault=fault,
        selinux=_text(_ENFORCES, machine).strip() == "1",
        paths=paths,
        compose_version=_compose_version(machine) if program in _BY_COMPOSE else None,
        host_root=host_root,
    )


def _compose_version(machine: Machine) -> str | None:
    """The version of the plugin of docker, or of the program docker-compose."""
    docker, compose = machine.program("docker"), machine.program(COMPOSE)
    printed = None
    if docker and machine.trusts(docker):
        printed = machine.output(docker, "compose", "version")
    if printed is None and compose and machine.trusts(compose):
        printed = machine.output(compose, "version")
    return printed_version(printed or "")


def _settings(machine: Machine, host_root: str) -> tuple[Configuration | None, Finding | None]:
    override = machine.environment.get(configuration.OVERRIDE)
    environment = {configuration.OVERRIDE: override} if override else {}
    path = None
    if host_root != "/":
        path = join(host_root, "etc", nvidia.CONFIGURATION)
        if not os.path.exists(path):
            return _below(Configuration(), host_root), None
    try:
        return _below(configuration.load(path, environment=environment), host_root), None
    except HookError as error:
        fix = "sudo nvidia-ctk config --in-place  # writes the defaults; or correct the line"
        return None, Finding(error.code, "error", str(error), fix=fix)


def _below(settings: Configuration, host_root: str) -> Configuration:
    """The settings with the paths of this process for the host's spec directories."""
    settings.spec_dirs = tuple(join(host_root, directory) for directory in settings.spec_dirs)
    return settings


def _hook_programs(directories: Sequence[str], machine: Machine) -> dict[str, str]:
    """The program of each file of hooks.d; empty for a file that is not valid."""
    programs: dict[str, str] = {}
    for directory in directories:
        for path in machine.files(directory, ".json"):
            try:
                text = machine.text(path)
            except CdiGenError:
                continue  # this user may not read it
            try:
                programs[path] = str(json.loads(text or "")["hook"]["path"])
            except (ValueError, KeyError, TypeError, RecursionError):
                programs[path] = ""
    return programs


def _text(path: str, machine: Machine) -> str:
    try:
        return machine.text(path) or ""
    except CdiGenError:
        return ""
