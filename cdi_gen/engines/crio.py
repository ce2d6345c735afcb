# SPDX-License-Identifier: Apache-2.0
"""CRI-O: TOML with drop-ins, which it merges; it takes CDI devices by itself.

It reads every file in its drop-in directory, whatever its name: nothing else of ours may lie there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdi_gen.engines import low_level, version
from cdi_gen.engines.known import newest_cdi_version
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import (
    SPEC_DIRECTORIES,
    Change,
    Finding,
    Plan,
    Runtime,
    Wishes,
    in_usual_places,
    refuse,
)
from cdi_gen.engines.runtimes import is_nvidia, like, needed_as_default
from cdi_gen.engines.settings import Settings, edited
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_text import Table, get
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import join, parent

NAME = "crio"
FILE = "/etc/crio/crio.conf"
DROP_IN = "crio.conf.d/99-nvidia.toml"

FIRST_WITH_CDI = (1, 23)
_RUNTIME = ("crio", "runtime")
_PROGRAMS = ("inherit_default_runtime", "platform_runtime_paths")
"""Keys of a runtime that have another program run than its `runtime_path`."""
_RUNTIMES = (*_RUNTIME, "runtimes")
_DEFAULT = (*_RUNTIME, "default_runtime")


def settings(said: Table, runtime: Runtime) -> Settings:
    """The keys of a runtime: as the default one's, but for the program.

    Args:
        said: what is said below ``crio.runtime`` elsewhere.
        runtime: what is to be registered.
    """
    runtimes = get(said, ("runtimes",)) or {}
    default = said.get("default_runtime")
    model: Any = next(
        (runtimes[name] for name in (default, "runc", "crun") if name in runtimes), {}
    )
    entry = like(model)
    for name in _PROGRAMS:
        entry.pop(name, None)
    entry["runtime_path"] = runtime.path
    entry["runtime_type"] = "oci"
    found: list[tuple[Path, Any]] = [((*_RUNTIMES, runtime.name), entry)]
    if runtime.default:
        found.append((_DEFAULT, runtime.name))
    return found


def plan(wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for CRI-O."""
    refuse(NAME, wishes, "--executable-path", "--rootless", "--oci-hook")
    path = wishes.configuration or FILE
    ours_at = wishes.drop_in or join(parent(path), DROP_IN)
    said = _said(machine, path, but=ours_at)
    notes, warnings = [], []
    found = machine.version(machine.program(NAME))
    if wishes.cdi and version.before(found, FIRST_WITH_CDI):
        warnings.append(f"CRI-O {found} knows no CDI (1.23 does)")
    elif wishes.cdi:
        notes.append("CRI-O takes CDI devices by itself")
        directories = said.get("cdi_spec_dirs")
        if directories is not None and not in_usual_places(directories):
            what = f"cdi_spec_dirs of CRI-O are {directories}"
            warnings.append(f"{what}: specs in /etc/cdi do not count")

    runs = _low_level(said, machine) if wishes.runtime else None
    wishes, launcher, more = low_level.told(NAME, FILE, wishes, runs, machine)
    ours = settings(said, wishes.runtime) if wishes.runtime else ()
    warnings += _overruled(machine, path, ours_at, wishes.runtime)
    elsewhere = said.get("default_runtime")
    defined = elsewhere in (said.get("runtimes") or {})
    change = Change(
        ours_at,
        lambda text: edited(text, ours),
        toml_text.TOML,
        tuple(path for path, _ in ours),
        needed_as_default(toml_text.TOML, _RUNTIMES, _DEFAULT, None if defined else elsewhere),
    )
    return Plan((*launcher, change), tuple(notes), (*warnings, *more), "systemctl restart crio")


def _overruled(machine: Machine, path: str, ours_at: str, runtime: Runtime | None) -> Iterator[str]:
    """What files that are read after ours say otherwise."""
    for name in machine.files(join(parent(path), "crio.conf.d")) if runtime else ():
        if parent(name) != parent(ours_at) or name <= ours_at:
            continue
        said = get(toml_text.parse(machine.text(name), name), _RUNTIME) or {}
        default = said.get("default_runtime")
        if runtime and runtime.default and default not in {None, runtime.name}:
            yield f"{name} is read after {ours_at}, and makes {default} the default"
        if runtime and runtime.name in (said.get("runtimes") or {}):
            yield f"{name} is read after {ours_at}, and has another {runtime.name}"


def _low_level(said: Table, machine: Machine) -> str | None:
    """What the default runtime runs; its name, where CRI-O looks for that in its PATH."""
    runtimes = said.get("runtimes") or {}
    for name in dict.fromkeys((said.get("default_runtime"), "crun", "runc")):
        entry = runtimes.get(name)
        if not isinstance(entry, dict) or entry.get("runtime_type") == "vm":
            continue
        program = low_level.of(str(entry.get("runtime_path") or name), machine)
        if program:
            return program
    return None


def _said(machine: Machine, path: str, *, but: str | None = None) -> Table:
    """What the files say below ``crio.runtime``, later ones over those before."""
    said: Table = {}
    for name in (path, *machine.files(join(parent(path), "crio.conf.d"))):
        text = machine.text(name) if name != but else None
        table = get(toml_text.parse(text, name), _RUNTIME)
        if isinstance(table, dict):
            runtimes = {**(said.get("runtimes") or {}), **(table.get("runtimes") or {})}
            said = {**said, **table, "runtimes": runtimes}
    return said


def findings(machine: Machine) -> list[Finding]:
    """CRI-O as its files have it be."""
    program = machine.program(NAME)
    if not program:
        return []
    found = machine.version(program)
    notes: tuple[str, ...] = ()
    said: Table = {}
    try:
        said = _said(machine, FILE)
    except CdiGenError as error:
        notes = (error.message,)
    directories = said.get("cdi_spec_dirs")
    no = version.before(found, FIRST_WITH_CDI)
    programs = [
        (name, str(entry.get("runtime_path") or ""))
        for name, entry in (said.get("runtimes") or {}).items()
        if isinstance(entry, dict)
    ]
    return [
        Finding(
            engine=NAME,
            program=program,
            version=found,
            rootless=False,
            cdi="no" if no else "on" if directories != [] else "off",
            newest_cdi_version=newest_cdi_version("cri-o", found),
            spec_directories=() if no else tuple(directories or SPEC_DIRECTORIES),
            source=parent(FILE) if directories is not None else "default",
            runtimes=tuple(each for each in programs if is_nvidia(*each)),
            notes=notes,
        )
    ]
