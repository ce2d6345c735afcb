# SPDX-License-Identifier: Apache-2.0
"""Reads the command lines of container engines into `ContainerRequest`."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence

from cdi_base.findings import Finding
from cdi_gen.errors import UsageError
from cdi_gen.why.command import (
    docker_context,
    dockerfile,
    env_file,
    gpu_request,
    misplaced,
    option_table,
    prefix,
    verbs,
)
from cdi_gen.why.command.arguments import Arguments, parse
from cdi_gen.why.command.request import BUILD, RUN, SERVICE, ContainerRequest, Rewriting

_ACTIONS = {"build": BUILD, "service create": SERVICE}
_ENGINES = {"ctr": "containerd"}
_OF_BUILDS = ("build",)
_OF_CONTAINERS = ("run", "create")

DEVICE_OPTIONS = ("device", "gpus", "runtime", "allow")
"""The options that ask for devices: an advice replaces them."""


class Reading:
    """A command line whose own options are read, up to the command."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        as_root: bool | None,
        before: tuple[str, ...] = (),
    ) -> None:
        self.program = words[0]
        self.words = tuple(words)
        self.environment = environment
        self.as_root = as_root
        self.before = before
        """The words before the program."""
        self.own = parse(
            words,
            option_table.table(self.program),
            interspersed=False,
            go_flags=self.program in verbs.GO_FLAGS,
            start=1,
        )
        self.command, length = verbs.find(self.program, self.own.positional)
        self.start = self.own.rest + length

    @property
    def endpoint(self) -> str:
        """The address of the daemon that is asked; empty: the default one."""
        own, environment = self.own, self.environment
        if self.program == "docker":
            context = own.last("context", environment.get("DOCKER_CONTEXT", ""))
            if not context and not self.as_root:  # root has a configuration of its own
                context = docker_context.current(environment)
            host = own.last("host", environment.get("DOCKER_HOST", ""))
            if own.all("host"):
                return host
            if own.all("context"):
                return f"context {context}" if context != "default" else ""
            return host or (f"context {context}" if context not in ("", "default") else "")
        if self.program == "podman":
            for option, variable in (
                ("url", "CONTAINER_HOST"),
                ("connection", "CONTAINER_CONNECTION"),
            ):
                value = own.last(option, environment.get(variable, ""))
                if value:
                    return value
            return "the default connection" if own.is_on("remote") else ""
        return ""

    def arguments(self) -> Arguments:
        """The options and arguments of the command."""
        table = option_table.table(self.program, self.command)
        if self.program in ("podman", "buildah", "nerdctl"):  # cobra's persistent flags
            table = option_table.joined(table, option_table.table(self.program))
        return parse(
            self.words,
            table,
            interspersed=(self.program, self.command) in verbs.INTERSPERSED,
            go_flags=self.program in verbs.GO_FLAGS,
            start=self.start,
        )


def request_of(reading: Reading) -> ContainerRequest:
    """The request of a command that starts one container, or builds an image.

    Raises:
        UsageError: the command starts no container.
    """
    program, command = reading.program, reading.command
    if not option_table.has_command(program, command) or not command:
        known = sorted({" ".join(words) for words in verbs.VERBS[program]})
        given = " ".join((program, *reading.own.positional[:2])).strip()
        raise UsageError(
            f"{given} starts no container and builds no image",
            hint=f"commands of {program} that are explained: {', '.join(known)}",
            code="CDG-Y123",
        )
    own, arguments = reading.own, reading.arguments()
    findings = [*_faults(reading, own, arguments)]
    variables, more = _variables(reading, arguments)
    findings += more
    gpus, more = _gpu_requests(program, arguments)
    findings += more
    if _may_misplace(command, arguments):
        findings += misplaced.after_image(program, command, arguments.positional)
    build_devices: tuple[str, ...] = ()
    if command == "build" and program in ("docker", "nerdctl"):
        build_devices = dockerfile.devices(arguments)
    is_podman = program in ("podman", "ctr")
    return ContainerRequest(
        engine=_ENGINES.get(program, program),
        program=program,
        action=_ACTIONS.get(command, RUN),
        source=shlex.join((*reading.before, *reading.words)),
        image=_image(command, arguments),
        devices=arguments.all("device"),
        gpus=tuple(gpus),
        podman_gpus=arguments.all("gpus") if is_podman else (),
        runtime=_runtime(program, own, arguments),
        environment=variables,
        annotations=tuple(_pair(text) for text in arguments.all("annotation")),
        mounts=tuple(_volume(text) for text in arguments.all("volume")),
        privileged=arguments.is_on("privileged"),
        capabilities_added=arguments.all("cap-add"),
        security_options=arguments.all("security-opt"),
        groups=arguments.all("group-add"),
        isolation=arguments.last("isolation", reading.environment.get("BUILDAH_ISOLATION", "")),
        allowed=arguments.all("allow"),
        build_devices=build_devices,
        endpoint=reading.endpoint,
        as_root=reading.as_root,
        spec_directories=_of_both(own, arguments, "cdi-spec-dir"),
        hooks_directories=_of_both(own, arguments, "hooks-dir"),
        generic_resources=tuple(
            _pair(text)[0] for text in arguments.all("generic-resource") if command in _ACTIONS
        ),
        command=command,
        options=tuple(dict.fromkeys(option.name for option in arguments.given)),
        findings=tuple(findings),
        rewriting=_rewriting(reading, arguments),
    )


def _rewriting(reading: Reading, arguments: Arguments) -> Rewriting:
    options = [given for given in arguments.given if given.name in DEVICE_OPTIONS]
    spans = tuple((given.start, given.end) for given in options if given.is_alone)
    stray: tuple[tuple[int, int], ...] = ()
    if _may_misplace(reading.command, arguments):
        first = arguments.rest
        found = misplaced.spans(arguments.positional)
        stray = tuple((first + start, first + end) for start, end in found)
    return Rewriting(reading.words, spans, reading.start, reading.before, stray)


def _may_misplace(command: str, arguments: Arguments) -> bool:
    """Whether options after the image are looked at: the command asks for no device before it."""
    return command in _OF_CONTAINERS and not any(map(arguments.all, DEVICE_OPTIONS))


def _of_both(own: Arguments, arguments: Arguments, name: str) -> tuple[str, ...]:
    return (*own.all(name), *arguments.all(name))


def _runtime(program: str, own: Arguments, arguments: Arguments) -> str:
    if program == "ctr":
        return arguments.last("runc-binary")
    return arguments.last("runtime", own.last("runtime"))


def _image(command: str, arguments: Arguments) -> str:
    if command in _OF_BUILDS:
        return next(iter(arguments.all("tag")), "")
    return arguments.positional[0] if arguments.positional else ""


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _volume(text: str) -> tuple[str, str]:
    source, _, rest = text.partition(":")
    return source, rest.partition(":")[0]


def _variables(
    reading: Reading, arguments: Arguments
) -> tuple[tuple[tuple[str, str], ...], list[Finding]]:
    """The container's variables: those of files first, then those of options."""
    variables: list[tuple[str, str]] = []
    findings: list[Finding] = []
    for path in arguments.all("env-file"):
        listed, finding = env_file.read(path, reading.environment)
        variables += listed
        findings += finding
    for text in arguments.all("env"):
        name, equals, value = text.partition("=")
        if equals:
            variables.append((name, value))
        elif name in reading.environment:
            variables.append((name, reading.environment[name]))
        elif name.endswith("*") and reading.program == "podman":
            start = name[:-1]
            variables += [pair for pair in reading.environment.items() if pair[0].startswith(start)]
    return tuple(variables), findings


def _faults(reading: Reading, own: Arguments, arguments: Arguments) -> list[Finding]:
    """Why the program rejects the command line, as far as that is known."""
    program = reading.program
    findings = []
    for fault in filter(None, (own.fault, arguments.fault)):
        message = f"{program} rejects the command line: {fault}"
        findings.append(Finding("CDG-Y101", "error", message, subject=program))
    commands = (("", own.unknown), (reading.command, arguments.unknown))
    for command, options in commands:
        findings += [_unknown(program, command, option) for option in options]
    wanted = 2 if program == "ctr" else 1
    if reading.command != "build" and not findings and len(arguments.positional) < wanted:
        what = "an image and an id" if program == "ctr" else "an image"
        message = f"{program} {reading.command} needs {what}"
        findings.append(Finding("CDG-Y101", "error", message, subject=program))
    return findings


def _unknown(program: str, command: str, option: str) -> Finding:
    table = option_table.table(program, command)
    names = [f"--{name}" for name in table.kinds]
    similar = difflib.get_close_matches(option, names, n=1)
    versions = f"{table.versions[0]} to {table.versions[-1]}"
    what = f"{program} {command}".strip()
    message = f"{what} has no option {option} in the versions that are known ({versions})"
    fix = f"did you mean {similar[0]}?" if similar else f"see: {what} --help"
    return Finding("CDG-Y101", "error", message, subject=option, fix=fix)


def _gpu_requests(
    program: str, arguments: Arguments
) -> tuple[list[gpu_request.GpuRequest], list[Finding]]:
    requests, findings = [], []
    for value in arguments.all("gpus") if program in ("docker", "nerdctl") else ():
        try:
            requests.append(gpu_request.docker(value))
        except gpu_request.GpuRequestError as error:  # noqa: PERF203 - one or two values
            findings.append(_bad_gpus(program, value, str(error)))
    return requests, findings


def _bad_gpus(program: str, value: str, fault: str) -> Finding:
    message = f"{program} rejects --gpus {shlex.quote(value)}: {fault}"
    fix = "all, a number, or device=0; several devices in one value need quotation marks that the "
    fix += """shell keeps: --gpus '"device=0,2"'"""
    return Finding("CDG-Y107", "error", message, subject="--gpus", fix=fix)


def read(words: Sequence[str], environment: Mapping[str, str]) -> Reading:
    """Read a command line up to the command of its program.

    Raises:
        UsageError: the words contain no program of a container engine.
    """
    line = prefix.split(words)
    if not line.words:
        raise UsageError(
            f"{' '.join(words)[:80]!r} is no command line of {', '.join(prefix.PROGRAMS)}",
            hint="for example: cdi-gen why docker run --gpus all IMAGE",
            code="CDG-Y123",
        )
    return Reading(line.words, prefix.environment_of(line, environment), line.as_root, line.before)
