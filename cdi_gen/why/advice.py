# SPDX-License-Identifier: Apache-2.0
"""Messages about spec files that an engine does not use, with what to do about each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.cdi.versions import compare
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.cdi.problem import Problem
from cdi_gen.cdi.versions import minimum_version
from cdi_gen.engines import facts, spec_directories
from cdi_gen.store import SpecFile
from cdi_gen.why.readers import Reader
from cdi_gen.why.spec_files import Access

OUR_KIND = "nvidia.com/gpu"
"""The kind of the specs that `cdi-gen generate` writes."""

_FACTS: dict[str, Callable[[], Any]] = {
    "podman": facts.podman,
    "buildah": facts.buildah,
    "docker": facts.docker,
    "containerd": facts.containerd,
    "crio": facts.crio,
    "nerdctl": facts.nerdctl,
}


def without_cdi(reader: Reader) -> Finding:
    """The finding that an engine has no CDI, or that CDI is switched off."""
    if reader.cdi == "no":
        since = _FACTS[reader.engine]().cdi_since
        fix = f"install {reader.engine} {since} or later"
        if reader.engine == "docker":
            program = facts.docker().gpus_by_hook_program
            fix = (
                f"sudo cdi-gen hook install --{program}, and request the GPU with docker run "
                f"--gpus; or {fix}"
            )
        message = f"{reader.label} does not support CDI ({since} and later do)"
        return Finding("CDG-E102", "error", message, subject=reader.engine, fix=fix)
    restart = f" && {_restart(reader)}" if reader.has_daemon else ""
    configure = f"cdi-gen engine configure {reader.engine}"
    since = getattr(_FACTS[reader.engine](), "cdi_by_default_since", "")
    because = reader.source
    if reader.source == "default" or (since and not at_least(reader.version, since, unknown=True)):
        because = f"{reader.engine} before {since} needs a setting" if since else reader.source
    fix = f"{_sudo(reader)}{configure}{' --rootless' if reader.rootless else ''}{restart}"
    if not since:
        fix = f"remove cdi_spec_dirs from {reader.source}{restart}"
    message = f"CDI is switched off in {reader.label} ({because})"
    return Finding("CDG-Y002", "error", message, subject=reader.engine, fix=fix)


SYNTAX_ERRORS = frozenset({"CDG-E002", "CDG-E003"})
"""Codes of a configuration that an engine cannot read: what it contains has no effect."""


def unreadable_configuration(reader: Reader) -> list[Finding]:
    """The findings that an engine without CDI cannot read its configuration."""
    if reader.cdi != "off":
        return []
    restart = f" && {_restart(reader)}" if reader.has_daemon else ""
    return [
        Finding(
            finding.code,
            "error",
            f"{finding.message}: {reader.label} does not start, or keeps its old settings",
            subject=finding.subject,
            fix=f"correct {finding.subject}{restart}",
        )
        for finding in reader.findings
        if finding.code in SYNTAX_ERRORS
    ]


def _sudo(reader: Reader) -> str:
    return "" if reader.rootless else "sudo "


def _restart(reader: Reader) -> str:
    if reader.engine == "docker" and reader.rootless:
        return facts.docker().user_restart
    return f"sudo {_FACTS[reader.engine]().restart}"


def unreadable_file(reader: Reader, path: str, access: Access) -> Finding:
    """The finding that the engine's user may not read a file."""
    message = f"{reader.title} cannot read {path}: {access.reason}"
    fix = f"sudo chmod 0644 {shlex.quote(path)}"
    return Finding("CDG-F107", "error", message, subject=path, fix=fix)


def linked_directory(reader: Reader, path: str, target: str) -> Finding:
    """The finding that a spec directory is a link, which the engine does not follow."""
    message = f"{path} is a symbolic link, and {reader.label} does not follow it"
    place = shlex.quote(path)
    fix = f"sudo rm {place} && sudo cp -rL {shlex.quote(target)} {place}"
    return Finding("CDG-Y004", "error", message, subject=path, fix=fix)


def dangling_directory(name: str, path: str, target: str) -> Finding:
    """The finding that a spec directory is a link to a directory that does not exist."""
    message = f"{path} is a symbolic link to {target}, which does not exist"
    place = shlex.quote(path)
    fix = f"sudo rm {place} && sudo mkdir -m 0755 {place}"
    if name.partition("=")[0] == OUR_KIND:
        fix = f"sudo rm {place} && sudo cdi-gen generate -o {shlex.quote(f'{path}/nvidia.json')}"
    fix += f"  # or mount the file system of {target}"
    return Finding("CDG-Y004", "error", message, subject=path, fix=fix)


def dangling_file(reader: Reader, path: str, target: str) -> Finding:
    """The finding that a spec file is a link that leads to nothing."""
    message = f"{path} is a symbolic link to {target}, which does not exist"
    fix = f"{_removed(reader, path, path)}  # or mount the file system of {target}"
    return Finding("CDG-F107", "error", message, subject=path, fix=fix)


def without(reader: Reader, path: str) -> str:
    """The command that makes a directory in place of a link or a file."""
    return _removed(reader, path, f"{path}/nvidia.json")


def _removed(reader: Reader, path: str, file: str) -> str:
    target = f"--for {reader.release} " if reader.library else ""
    sudo = _sudo(reader)
    return f"{sudo}rm {shlex.quote(path)} && {sudo}cdi-gen generate {target}-o {shlex.quote(file)}"


def ignored_file(reader: Reader, file: SpecFile, problem: Problem) -> Finding:
    """The finding that an engine ignores a file for a problem of the file."""
    path = file.path
    newest = reader.newest_cdi_version
    if problem.code == "CDG-S303" and newest and file.spec:
        claimed = file.spec.cdi_version.removeprefix("v")
        reason = f"it claims CDI {claimed}, and {reader.label} reads CDI up to {newest}"
    elif problem.partly_refused_by:
        reason = f"{problem} (the CDI library of {reader.label})"
    else:
        reason = str(problem)
    message = f"{reader.label} ignores {path}: {reason}"
    return Finding(problem.code, "error", message, subject=path, fix=_rewritten(reader, file))


def _rewritten(reader: Reader, file: SpecFile) -> str:
    """The command that writes the file so that the engine reads it."""
    path = shlex.quote(file.path)
    spec = file.spec
    if spec and spec.kind != OUR_KIND:
        newest = reader.newest_cdi_version
        needed = minimum_version(spec)
        if newest and compare(needed, newest) <= 0 and needed != spec.cdi_version:
            pattern = f's/("?cdiVersion"?: *)"?[0-9.v]+"?/\\1"{needed}"/'
            return f"sudo sed -i -E {shlex.quote(pattern)} {path}"
        return f"see all problems with: cdi-gen validate {path}"
    target = f"--for {reader.release} " if reader.library else ""
    return f"sudo cdi-gen generate {target}-o {path}"


def unread_directory(reader: Reader, file: SpecFile, name: str) -> Finding:
    """The finding that a file defines a device in a directory that the engine does not read."""
    directory = file.path.rpartition("/")[0]
    message = (
        f"{file.path} defines {name}, but {reader.title} reads only {', '.join(reader.directories)}"
    )
    return Finding(
        "CDG-Y001", "error", message, subject=file.path, fix=_reading(reader, file, directory)
    )


def _reading(reader: Reader, file: SpecFile, directory: str) -> str:
    if reader.source not in {"default", "docker info", "containerd config dump"}:
        paths = json.dumps([*reader.directories, directory])
        line = (
            f'"cdi-spec-dirs": {paths}' if reader.engine == "docker" else f"cdi_spec_dirs = {paths}"
        )
        return f"set in {reader.source}: {line}"
    if reader.engine in {"podman", "buildah"}:
        fact = facts.podman() if reader.engine == "podman" else facts.buildah()
        if at_least(reader.version, fact.run_spec_directories_since, unknown=False):
            option = " --rootless" if reader.rootless else ""
            return f"{_sudo(reader)}cdi-gen engine configure {reader.engine}{option}"
    if reader.engine == "docker" and reader.rootless:
        return f"cdi-gen engine configure docker --rootless && {facts.docker().user_restart}"
    system = next(filter(spec_directories_of_system, reader.directories), SPEC_DIRECTORIES[0])
    base = file.path.rpartition("/")[2]
    if file.spec and file.spec.kind == OUR_KIND:
        return f"sudo cdi-gen generate -o {shlex.quote(f'{system}/{base}')}"
    return f"sudo install -D -m 0644 {shlex.quote(file.path)} {shlex.quote(f'{system}/{base}')}"


def spec_directories_of_system(directory: str) -> bool:
    """Whether a directory is one of the default spec directories, whatever its spelling."""
    return spec_directories.includes(SPEC_DIRECTORIES, directory)


def unnoticed_link(reader: Reader, path: str) -> Finding:
    """The finding that a running daemon does not notice a file that is a symbolic link."""
    message = f"{path} is a symbolic link: {reader.label} notices a new link only when it starts"
    return Finding("CDG-Y011", "info", message, subject=path, fix=_restart(reader))


def dropped_groups(reader: Reader, path: str) -> Finding:
    """The finding that an engine does not give the groups of a spec to a container's process."""
    message = f"{reader.label} drops the additionalGids of {path}: the process is in no such group"
    return Finding("CDG-S417", "warning", message, subject=path, fix=_DROPPED)


_DROPPED = "request the groups with --group-add"


def undefined(reader: Reader, name: str, *, has_driver: bool = True) -> Finding:
    """The finding that no file in the engine's directories defines a name."""
    directories = ", ".join(reader.directories)
    message = f"no spec file that {reader.label} reads ({directories}) defines {name}"
    system = next(filter(spec_directories_of_system, reader.directories), SPEC_DIRECTORIES[0])
    fix = ""
    if not has_driver:
        message += ", and the host has no NVIDIA driver that works"
        fix = "sudo cdi-gen doctor"
    elif name.partition("=")[0] == OUR_KIND:
        target = f"--for {reader.release} " if reader.library else ""
        fix = f"sudo cdi-gen generate {target}-o {system}/nvidia.json"
    return Finding("CDG-F101", "error", message, subject=name, fix=fix)
