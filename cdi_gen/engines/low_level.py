# SPDX-License-Identifier: Apache-2.0
"""Which low-level runtime an engine would have used, and how the shim is told of it.

The shim looks for runc, then crun, as `nvidia-container-runtime` does. An engine may have another
as its default, or one of its own where nobody else looks: CRI-O's are in /usr/libexec/crio alone.
There the engine is given a launcher, a file of two lines that names the runtime and becomes the
shim. Which runtime made a container matters for its whole life: no other can end it.
"""

from __future__ import annotations

import os
import re
import shlex
from functools import partial

from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
from cdi_gen.engines.plan import HEADER, Change, Wishes
from cdi_gen.engines.runtimes import is_nvidia
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import base_name, join, parent

RUNTIMES = ("runc", "crun")
"""What the shim looks for, in this order, as `cdi_runtime.shim.oci_runtime` does."""

VARIABLE = "CDI_GEN_LOW_LEVEL_RUNTIME"
"""By which a launcher tells the shim."""

SETTINGS = "/etc/nvidia-container-runtime/config.toml"
SYSTEM = "/etc/cdi-gen"
_TOLD = re.compile(rf"^export {VARIABLE}=(.+)$", re.MULTILINE)


def directory(engine: str, usual: str | None, wishes: Wishes, machine: Machine) -> str:
    """Where the launchers of an engine are.

    A daemon with another configuration has its own: its low-level runtime may be another, and it
    still needs its launcher when that of the first is taken back.
    """
    base = join(machine.config_home, "cdi-gen") if wishes.rootless else SYSTEM
    path = wishes.configuration
    return join(base, engine if path in {None, usual} else f"{engine}{str(path).replace('/', '-')}")


def of(program: str | None, machine: Machine) -> str | None:
    """The low-level runtime that an engine's program is: a name is looked up, a launcher is read.

    None where it is NVIDIA's shim or ours, or nothing that is there.
    """
    if not program:
        return None
    if base_name(parent(parent(program))) == "cdi-gen":
        told = _TOLD.search(machine.text(program) or "")
        return next(iter(shlex.split(told[1])), None) if told else None
    if is_nvidia("", program):
        return None
    return program if "/" in program else machine.program(program)


def told(
    engine: str, usual: str | None, wishes: Wishes, low_level: str | None, machine: Machine
) -> tuple[Wishes, tuple[Change, ...], tuple[str, ...]]:
    """The wishes with the program that the engine is to start, its launcher, and warnings.

    Args:
        engine: its name.
        usual: its usual configuration file, if it can have another.
        wishes: with a runtime, or without.
        low_level: what the engine would have used; None where that is not known.
        machine: where all of it is.
    """
    folder = directory(engine, usual, wishes, machine)
    if wishes.runtime is None:
        return wishes, _launchers(folder, machine), ()
    named = _named(machine)
    if named is not None:
        if low_level in {None, *map(partial(of, machine=machine), named)}:
            return wishes, (), ()
        starts = f"the shim starts {' or '.join(named)}, as runtimes in {SETTINGS} has it"
        return wishes, (), (f"{starts}, and not {low_level}, which is the default of {engine}",)
    found = next(filter(None, (machine.found(name, USUAL_DIRECTORIES) for name in RUNTIMES)), None)
    if low_level is None:
        if found:
            return wishes, (), ()
        names = " or ".join(RUNTIMES)
        lacking = f"no {names} is found, and the shim needs one"
        return wishes, (), (f"{lacking}: install it, or name another in {SETTINGS}",)
    if _is_found_anyway(low_level, found):
        return wishes, (), ()
    place = join(folder, base_name(wishes.runtime.path))
    text = _launcher(low_level, wishes.runtime.path)
    launcher = Change(place, lambda _: text, mode=0o755)
    return wishes._replace(runtime=wishes.runtime._replace(path=place)), (launcher,), ()


def _named(machine: Machine) -> list[str] | None:
    """What an administrator has said that the shim is to start; None if it is the usual."""
    try:
        text = machine.text(SETTINGS)
        if text is None:
            return None
        from cdi_gen.engines.text import toml_text  # noqa: PLC0415 - tomlkit takes 20 ms

        said = toml_text.parse(text, SETTINGS)
    except CdiGenError:
        return None  # the shim will say it
    names = toml_text.get(said, ("nvidia-container-runtime", "runtimes"))
    usual = not isinstance(names, list) or names == [*RUNTIMES]
    return None if usual else [str(each) for each in names]


def _is_found_anyway(low_level: str, found: str | None) -> bool:
    if found:
        return os.path.realpath(found) == os.path.realpath(low_level)
    return parent(low_level) in USUAL_DIRECTORIES and base_name(low_level) in RUNTIMES


def _launcher(low_level: str, shim: str) -> str:
    return (
        f"#!/bin/sh\n{HEADER}export {VARIABLE}={shlex.quote(low_level)}\n"
        f'exec {shlex.quote(shim)} "$@"\n'
    )


def _launchers(folder: str, machine: Machine) -> tuple[Change, ...]:
    """Those that are there, as they are: to be taken back."""
    names = [each for each in machine.files(folder) if not base_name(each).count(".cdi-gen.")]
    return tuple(Change(name, lambda text: text) for name in names)
