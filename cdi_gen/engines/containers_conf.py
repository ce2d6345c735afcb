# SPDX-License-Identifier: Apache-2.0
"""``containers.conf``, which Podman and Buildah read both, and its drop-ins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cdi_gen.engines import low_level, version
from cdi_gen.engines.known import newest_cdi_version
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import SPEC_DIRECTORIES, Change, Finding, Plan, Runtime, Wishes, place
from cdi_gen.engines.runtimes import is_nvidia, needed_as_default
from cdi_gen.engines.settings import Settings, edited
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_text import get
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.paths import join, parent

SYSTEM = "/etc/containers"
DROP_IN = "containers.conf.d/99-nvidia.conf"

_DIRECTORIES = ("engine", "cdi_spec_dirs")
_RUNTIMES = ("engine", "runtimes")
_DEFAULT = ("engine", "runtime")


class Reader(NamedTuple):
    """A program that reads these files, and since when it does what."""

    name: str
    first_with_cdi: version.Version
    first_told: version.Version
    """From which on ``cdi_spec_dirs`` counts; before it the two directories are fixed."""
    first_told_to_run: version.Version
    """The same for ``run``; between the two it counts for ``build`` alone."""
    first_with_both: version.Version
    """Before it, one that is told looks by default in /etc/cdi alone (containers/common#2462)."""

    def etc_alone(self, found: str | None, since: version.Version) -> bool:
        """Whether it looks in /etc/cdi alone if it is told nothing."""
        before_both = version.before(found, self.first_with_both)
        return bool(before_both and not version.before(found, since))


class Said(NamedTuple):
    """What the files say, later ones over those before."""

    directories: tuple[str, ...] | None
    """``cdi_spec_dirs``; None where no file has it."""
    runtimes: dict[str, str]
    """By name, the first of its programs that is there, or else the first."""
    source: str
    """The file that said the directories."""
    default: str | None = None
    """The runtime that is used where none is asked for."""


def plan(reader: Reader, wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for one of them."""
    found = machine.version(machine.program(reader.name))
    base = join(machine.config_home, "containers") if wishes.rootless else SYSTEM
    path = wishes.drop_in or join(base, DROP_IN)
    if not path.endswith(".conf"):
        raise UsageError(f"--drop-in {path}: only *.conf is read")
    told = said(machine, rootless=wishes.rootless, but=path)
    notes, warnings = [], []
    directories: tuple[str, ...] = ()
    if wishes.cdi and version.before(found, reader.first_with_cdi):
        first = ".".join(map(str, reader.first_with_cdi))
        warnings.append(f"{reader.name} {found} knows no CDI ({first} does)")
    elif wishes.cdi:
        notes.append(f"{reader.name} takes CDI devices by itself")
        etc_alone = reader.etc_alone(found, reader.first_told)
        usual = told.directories or (SPEC_DIRECTORIES[:1] if etc_alone else SPEC_DIRECTORIES)
        own = (join(machine.runtime_directory, "cdi"),) if wishes.rootless else ()
        lacking = [each for each in (*SPEC_DIRECTORIES, *own) if not _has(usual, each)]
        wanted = (*usual, *lacking)
        if own and version.before(found, reader.first_told_to_run):
            fixed = " and ".join(SPEC_DIRECTORIES)
            warnings.append(f"{reader.name} run {found} looks in {fixed}, whatever it is told")
        if wanted == usual or version.before(found, reader.first_told):
            pass
        elif told.directories is None:
            directories = wanted
        else:
            warnings.append(f"{told.source} says where specs are looked for: it is left as it is")
    runs = _low_level(told, machine) if wishes.runtime else None
    wishes, launcher, more = low_level.told(reader.name, None, wishes, runs, machine)
    ours = settings(directories, wishes.runtime)
    warnings += _overruled(machine, path, wishes)
    elsewhere = told.default if told.default not in told.runtimes else None
    change = Change(
        path,
        lambda text: edited(text, ours),
        toml_text.TOML,
        tuple(each for each, _ in ours),
        needed_as_default(toml_text.TOML, _RUNTIMES, _DEFAULT, elsewhere),
    )
    return Plan((*launcher, change), tuple(notes), (*warnings, *more))


def _overruled(machine: Machine, path: str, wishes: Wishes) -> Iterator[str]:
    """What files that are read after ours say otherwise."""
    files = _files(machine, rootless=wishes.rootless, also=path)
    for name in files[files.index(path) + 1 :] if path in files and wishes.runtime else ():
        engine = get(toml_text.parse(machine.text(name), name), ("engine",)) or {}
        default = engine.get("runtime")
        if wishes.runtime and wishes.runtime.default and default not in {None, wishes.runtime.name}:
            yield f"{name} is read after {path}, and makes {default} the default"


def _low_level(told: Said, machine: Machine) -> str | None:
    """What is run by default: what a file names, by a name in the files or a path; else crun."""
    names = (told.default,) if told.default else ("crun", "runc")
    for name in names:
        program = low_level.of(told.runtimes.get(name) or name, machine)
        if program:
            return program
    return None


def settings(directories: tuple[str, ...], runtime: Runtime | None) -> Settings:
    """The keys that are to be set; no directories: left alone."""
    found: list[tuple[Path, Any]] = []
    if directories:
        found.append((_DIRECTORIES, [*directories]))
    if runtime:
        found.append(((*_RUNTIMES, runtime.name), [runtime.path]))
        if runtime.default:
            found.append((_DEFAULT, runtime.name))
    return found


def said(machine: Machine, *, rootless: bool, but: str | None = None) -> Said:
    """What the files say, in containers.conf(5)'s order, without the file ``but``.

    Raises:
        CdiGenError: one of them cannot be read.
    """
    directories: tuple[str, ...] | None = None
    runtimes: dict[str, str] = {}
    source = "default"
    default: str | None = None
    for path in _files(machine, rootless=rootless):
        text = machine.text(path) if path != but else None
        engine = get(toml_text.parse(text, path), ("engine",))
        if not isinstance(engine, dict):
            continue
        listed = engine.get("cdi_spec_dirs")
        if isinstance(listed, list):
            here = tuple(each for each in listed if isinstance(each, str))
            # {append=true} in a list: it does not replace the list of the files before.
            more = any(isinstance(each, dict) and each.get("append") for each in listed)
            directories = (*(directories or ()), *here) if more else here
            source = path
        default = str(engine.get("runtime") or "") or default
        for name, programs in (engine.get("runtimes") or {}).items():
            if isinstance(programs, list):
                places = [str(each) for each in programs if isinstance(each, str)]
                runtimes[name] = next(filter(machine.exists, places), (places or [""])[0])
    return Said(directories, runtimes, source, default)


def _files(machine: Machine, *, rootless: bool, also: str | None = None) -> list[str]:
    """The files in the order of reading; ``also`` one that is not there yet."""
    override = machine.environment.get("CONTAINERS_CONF")
    if override:
        return [override]
    found = ["/usr/share/containers/containers.conf"]
    bases = [SYSTEM, *([join(machine.config_home, "containers")] if rootless else [])]
    for base in bases:
        directory = join(base, "containers.conf.d")
        drop_ins = {*machine.files(directory, ".conf")}
        if also and parent(also) == directory:
            drop_ins.add(also)
        found += [join(base, "containers.conf"), *sorted(drop_ins)]
    return found


def findings(reader: Reader, machine: Machine) -> list[Finding]:
    """One of them as it is for this user."""
    program = machine.program(reader.name)
    if not program:
        return []
    found = machine.version(program)
    rootless = machine.uid != 0
    notes: list[str] = []
    told = Said(None, {}, "default")
    try:
        told = said(machine, rootless=rootless)
    except CdiGenError as error:
        notes.append(error.message)
    running = _directories(reader, found, told, reader.first_told_to_run)
    building = _directories(reader, found, told, reader.first_told)
    if told.directories is not None and building != told.directories:
        notes.append(f"{told.source}: this version does not look at cdi_spec_dirs")
    no = version.before(found, reader.first_with_cdi)
    if not no and not all(
        _has(each, one) for each in (running, building) for one in SPEC_DIRECTORIES
    ):
        what = "it" if running == building else f"{reader.name} build"
        notes.append(
            f"{what} looks in {' '.join(building)} alone: cdi-gen engine configure {reader.name}"
        )
    return [
        Finding(
            engine=reader.name,
            program=program,
            version=found,
            rootless=rootless,
            cdi="no" if no else "on",
            newest_cdi_version=newest_cdi_version(reader.name, found),
            spec_directories=() if no else running,
            source=told.source if running == told.directories else "default",
            runtimes=tuple(each for each in told.runtimes.items() if is_nvidia(*each)),
            notes=tuple(notes),
        )
    ]


def _has(directories: tuple[str, ...], one: str) -> bool:
    """Whether a directory is among others, compared as paths."""
    return place(one) in {*map(place, directories)}


def _directories(
    reader: Reader, found: str | None, told: Said, since: version.Version
) -> tuple[str, ...]:
    """Where it looks, for what is told of directories since a version."""
    if told.directories is not None and not version.before(found, since):
        return told.directories
    return SPEC_DIRECTORIES[:1] if reader.etc_alone(found, since) else SPEC_DIRECTORIES
