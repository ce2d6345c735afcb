# SPDX-License-Identifier: Apache-2.0
"""The low-level runtime that an engine used before, and the launcher that names it to the shim.

The shim searches for runc, then crun, as `nvidia-container-runtime` does. An engine may have
another default runtime, or a runtime in a directory of its own: CRI-O's runtimes are only in
/usr/libexec/crio. For such an engine cdi-gen writes a launcher, a script that names the runtime and
executes the shim. Only the runtime that created a container can delete the container, so the shim
must not start another runtime.
"""

from __future__ import annotations

import os
import re
import shlex
from functools import partial
from typing import NamedTuple

from cdi_base import nvidia
from cdi_base.findings import Finding
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
from cdi_gen.engines.plan import Change, Request
from cdi_gen.engines.runtimes import is_nvidia
from cdi_gen.engines.text.toml_settings import HEADER
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import base_name, join, parent

RUNTIMES = ("runc", "crun")
"""The runtimes that the shim looks for, in this order, as `cdi_runtime.shim.oci_runtime` does."""

VARIABLE = "CDI_GEN_LOW_LEVEL_RUNTIME"
"""The environment variable in which a launcher names the runtime."""

SETTINGS = f"/etc/{nvidia.CONFIGURATION}"
SYSTEM = "/etc/cdi-gen"
_EXPORT = re.compile(rf"^export {VARIABLE}=(.+)$", re.MULTILINE)


class Start(NamedTuple):
    """A request with a launcher, if the engine needs one, and the changes for the launcher."""

    request: Request
    """The request; the program of its runtime is the launcher, if one is needed."""
    changes: tuple[Change, ...] = ()
    """The launcher."""
    findings: tuple[Finding, ...] = ()


def launcher_directory(
    engine: str, default_file: str | None, request: Request, machine: Machine
) -> str:
    """The directory of the launchers of an engine.

    A daemon with another configuration file has a directory of its own: its low-level runtime may
    be another, and it still needs its launcher when that of the first daemon is removed.
    """
    base = join(machine.config_home, "cdi-gen") if request.rootless else SYSTEM
    path = request.configuration
    is_default = path in {None, default_file}
    return join(base, engine if is_default else f"{engine}{str(path).replace('/', '-')}")


def program_of(program: str | None, machine: Machine) -> str | None:
    """The low-level runtime that an engine's program is, or that a launcher names.

    None if the program is NVIDIA's shim or ours, or a name that is not found.
    """
    if not program:
        return None
    if base_name(parent(parent(program))) == "cdi-gen":
        export = _EXPORT.search(machine.text(program) or "")
        return next(iter(shlex.split(export[1])), None) if export else None
    if is_nvidia("", program):
        return None
    return program if "/" in program else machine.program(program)


def with_launcher(
    engine: str,
    default_file: str | None,
    request: Request,
    low_level: str | None,
    machine: Machine,
) -> Start:
    """A request whose runtime is a launcher, if the shim would not find the runtime by itself.

    Without a runtime in the request, the changes are the launchers that exist, to be reverted.

    Args:
        engine: the name of the engine.
        default_file: the engine's default configuration file, if it can have another.
        request: the request, with a runtime or without.
        low_level: the low-level runtime that the engine used before; None if it is unknown.
        machine: the machine.
    """
    directory = launcher_directory(engine, default_file, request, machine)
    if request.runtime is None:
        return Start(request, _existing_launchers(directory, machine))
    if not request.launcher:
        return Start(request)
    configured = _configured_runtimes(machine)
    if configured is not None:
        if low_level in {None, *map(partial(program_of, machine=machine), configured)}:
            return Start(request)
        names = " or ".join(configured)
        message = (
            f"the shim starts {names}, which {SETTINGS} sets (runtimes), and not {low_level}, "
            f"which is the default runtime of {engine}"
        )
        finding = Finding("CDG-E107", "warning", message, subject=engine, source=SETTINGS)
        return Start(request, findings=(finding,))
    programs = (machine.find_program(name, USUAL_DIRECTORIES) for name in RUNTIMES)
    program = next(filter(None, programs), None)
    if low_level is None:
        if program:
            return Start(request)
        names = " or ".join(RUNTIMES)
        message = (
            f"the shim needs a low-level runtime, and no {names} is found: install one, or name "
            f"another (runtimes) in {SETTINGS}"
        )
        finding = Finding("CDG-E107", "warning", message, subject=engine, source=SETTINGS)
        return Start(request, findings=(finding,))
    if not low_level.isprintable():
        raise CdiGenError(
            f"the path of the runtime that {engine} uses, {low_level}, has a character that no "
            "launcher can have",
            hint="correct the path in the configuration of the engine",
            code="CDG-E008",
            subject=low_level,
        )
    if _is_found_by_the_shim(low_level, program):
        return Start(request)
    path = join(directory, base_name(request.runtime.path))
    text = _launcher(low_level, request.runtime.path)
    launcher = Change(path, lambda _: text, mode=0o755)
    return Start(request._replace(runtime=request.runtime._replace(path=path)), (launcher,))


def _configured_runtimes(machine: Machine) -> list[str] | None:
    """The runtimes that the administrator set for the shim; None if they are the default ones."""
    try:
        text = machine.text(SETTINGS)
        if text is None:
            return None
        from cdi_gen.engines.text import toml_text  # noqa: PLC0415 - tomlkit takes 20 ms

        settings = toml_text.parse(text, SETTINGS)
    except CdiGenError:
        return None  # the shim reports it
    names = toml_text.get(settings, (nvidia.RUNTIME, "runtimes"))
    is_default = not isinstance(names, list) or names == [*RUNTIMES]
    return None if is_default else [str(name) for name in names]


def _is_found_by_the_shim(low_level: str, program: str | None) -> bool:
    if program:
        return os.path.realpath(program) == os.path.realpath(low_level)
    return parent(low_level) in USUAL_DIRECTORIES and base_name(low_level) in RUNTIMES


def _launcher(low_level: str, shim: str) -> str:
    return (
        f"#!/bin/sh\n{HEADER}export {VARIABLE}={shlex.quote(low_level)}\n"
        f'exec {shlex.quote(shim)} "$@"\n'
    )


def _existing_launchers(directory: str, machine: Machine) -> tuple[Change, ...]:
    """The launchers that exist, unchanged, so that they are reverted."""
    launchers = [
        path for path in machine.files(directory) if not base_name(path).count(".cdi-gen.")
    ]
    return tuple(Change(path, lambda text: text) for path in launchers)
