# SPDX-License-Identifier: Apache-2.0
"""Docker: one JSON file, ``daemon.json``, and no drop-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cdi_gen.engines import low_level, version
from cdi_gen.engines.change.record import Record
from cdi_gen.engines.docker.options import KEYS, refuse_what_is_told_twice
from cdi_gen.engines.known import newest_cdi_version
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
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
from cdi_gen.engines.runtimes import is_nvidia, needed_as_default
from cdi_gen.engines.text import json_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import join

NAME = "docker"
FILE = "/etc/docker/daemon.json"

FIRST_WITH_CDI = (25, 0)
ON_BY_DEFAULT = (28, 2)
"""moby#49963; before it ``features.cdi`` switches it on."""
USERS_DIRECTORIES_BY_DEFAULT = (29, 2)
"""moby#51624: a rootless daemon reads the user's own directories too."""

FIRST_WITH_GPUS_BY_CDI = (29, 0)
_CDI = ("features", "cdi")
_DIRECTORIES = ("cdi-spec-dirs",)
_RUNTIMES = ("runtimes",)
_DEFAULT = ("default-runtime",)
_RUNC = "io.containerd.runc.v2"

GPUS_BY_CDI = "nvidia-cdi-hook"
GPUS_BY_HOOK = "nvidia-container-runtime-hook"
"""What dockerd looks for in its PATH when it starts, for ``docker run --gpus``: with the first,
from 29.0 on (moby#50228), it takes CDI devices; with the second it runs that as a prestart hook."""


def edit(
    text: str | None, *, cdi: bool, directories: tuple[str, ...], runtime: Runtime | None
) -> str | None:
    """``daemon.json`` with what is asked for, and every other byte as it was.

    Args:
        text: what is in it; None if there is no such file.
        cdi: whether ``features.cdi`` is to be true; otherwise it is left alone.
        directories: ``cdi-spec-dirs``; none: left alone.
        runtime: what is to be registered.

    Raises:
        JSONTextError: it is no JSON object, or a value on the way is none.
    """
    made = text if text is not None and text.strip() else "{}"
    json_text.parse(made)
    if cdi:
        made = json_text.with_member(made, _CDI, "true")
    if directories:
        made = json_text.with_member(made, _DIRECTORIES, json.dumps([*directories]))
    if runtime:
        entry = json.dumps({"path": runtime.path, "args": []})
        made = json_text.with_member(made, (*_RUNTIMES, runtime.name), entry)
        if runtime.default:
            made = json_text.with_member(made, _DEFAULT, json.dumps(runtime.name))
    if made == "{}":
        return text
    return made if text else made + "\n"


def _member(said: dict[str, Any], name: str) -> dict[str, Any]:
    found = said.get(name)
    return found if isinstance(found, dict) else {}


def plan(wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for Docker."""
    refuse(NAME, wishes, "--drop-in", "--executable-path", "--oci-hook")
    path = _file(wishes, machine)
    found = _version(machine)
    notes, warnings = [], []
    too_old = version.before(found, FIRST_WITH_CDI)
    if wishes.cdi and too_old:
        warnings.append(
            f"docker {found} knows no CDI (25.0 does): for docker run --gpus it needs "
            f"{GPUS_BY_HOOK}, for --runtime=nvidia the option --runtime"
        )
    wanted = wishes.cdi and not too_old
    if wanted and (elsewhere := _elsewhere(machine.text(path))):
        warnings.append(f"cdi-spec-dirs of docker are {elsewhere}: specs in /etc/cdi do not count")
    on_anyway = version.before(found, ON_BY_DEFAULT) is False
    directories = _own_directories(wishes, machine, found) if wanted else ()

    text = machine.text(path)
    usual = _file(wishes._replace(configuration=None), machine)
    runs = _low_level(text, machine)
    wishes, launcher, more = low_level.told(NAME, usual, wishes, runs, machine)
    warnings += more

    def make(text: str | None) -> str | None:
        features = _member(json_text.value(text), "features") if text and text.strip() else {}
        needed = wanted and not (on_anyway and features.get("cdi") is not False)
        return edit(text, cdi=needed, directories=directories, runtime=wishes.runtime)

    if path == FILE and not wishes.back:
        refuse_what_is_told_twice(machine, _set(text, make))
    if wanted and on_anyway:
        notes.append(f"docker {found} takes CDI devices by itself")
    restart = "systemctl --user restart docker" if wishes.rootless else "systemctl restart docker"
    paths = [_CDI, _DIRECTORIES]
    if wishes.runtime:
        paths += [(*_RUNTIMES, wishes.runtime.name), _DEFAULT]
    stays = needed_as_default(json_text.JSON, _RUNTIMES, _DEFAULT)
    change = Change(path, make, json_text.JSON, tuple(paths), stays)
    return Plan((*launcher, change), tuple(notes), tuple(warnings), restart)


def _set(text: str | None, make: Callable[[str | None], str | None]) -> set[Path]:
    """What a file says anew; nothing where it cannot be read, which is told when it is changed."""
    try:
        made = make(text)
    except json_text.JSONTextError:
        return set()
    step = Record().with_step(json_text.JSON, text, made, [*KEYS.values()]).steps[0]
    return {value.path for value in step.values}


def _low_level(text: str | None, machine: Machine) -> str | None:
    """The default runtime of a file, or the one that has been ours until now."""
    try:
        said = json_text.value(text) if text and text.strip() else {}
    except json_text.JSONTextError:
        return None  # told when it is changed
    name = str(said.get("default-runtime") or "runc")
    entry = _member(_member(said, "runtimes"), name)
    options = {key.lower(): each for key, each in _member(entry, "options").items()}
    if str(entry.get("runtimeType") or _RUNC) != _RUNC:
        return None  # a shim of containerd's, and no program with runc's command line
    return low_level.of(str(entry.get("path") or options.get("binaryname") or name), machine)


def _elsewhere(text: str | None) -> str:
    """The directories of a file that has it look in none of the usual ones."""
    try:
        directories = json_text.value(text or "{}").get("cdi-spec-dirs")
    except json_text.JSONTextError:
        return ""  # told when it is changed
    known = isinstance(directories, list) and in_usual_places(directories)
    return "" if directories is None or known else json.dumps(directories)


def _own_directories(wishes: Wishes, machine: Machine, found: str | None) -> tuple[str, ...]:
    if not wishes.rootless or version.before(found, USERS_DIRECTORIES_BY_DEFAULT) is False:
        return ()
    return _users_directories(machine)


def _users_directories(machine: Machine) -> tuple[str, ...]:
    own = (machine.config_home, machine.runtime_directory)
    return (*SPEC_DIRECTORIES, *(join(directory, "cdi") for directory in own))


def _file(wishes: Wishes, machine: Machine) -> str:
    usual = join(machine.config_home, "docker/daemon.json") if wishes.rootless else FILE
    return wishes.configuration or usual


def _version(machine: Machine) -> str | None:
    return machine.version(machine.program("dockerd"))


def findings(machine: Machine) -> list[Finding]:
    """Docker as it is: the machine's, and for a user who has one, the user's own."""
    found = []
    program = machine.program("dockerd")
    info = _info(machine)
    rootless = "name=rootless" in (info.get("SecurityOptions") or ())
    if program or info:
        for own in (False, True):
            path = _file(Wishes(rootless=own), machine)
            answering = info if rootless == own else {}
            if not own or (machine.uid and (answering or machine.text(path) is not None)):
                found.append(_finding(machine, program, path, answering, own=own))
    return found


def _info(machine: Machine) -> dict[str, Any]:
    """What the daemon says of itself; nothing where it does not run."""
    client = machine.program("docker")
    printed = machine.output(client, "info", "--format", "{{json .}}") if client else None
    try:
        info = json_text.loads(printed or "{}")
    except (ValueError, RecursionError):
        return {}
    # Podman's own `docker` has another form of this.
    return info if isinstance(info, dict) and info.get("ServerVersion") else {}


def _finding(
    machine: Machine, program: str | None, path: str, info: dict[str, Any], *, own: bool
) -> Finding:
    notes = []
    said: dict[str, Any] = {}
    try:
        text = machine.text(path)
        said = json_text.value(text) if text and text.strip() else {}
    except CdiGenError as error:
        notes.append(error.message if path in error.message else f"{path}: {error.message}")
    known = version.read(str(info.get("ServerVersion", ""))) or machine.version(program)
    directories = said.get("cdi-spec-dirs")
    source = path
    if not isinstance(directories, list):
        users = own and version.before(known, USERS_DIRECTORIES_BY_DEFAULT) is False
        directories, source = _users_directories(machine) if users else SPEC_DIRECTORIES, "default"
    cdi = _cdi(known, _member(said, "features").get("cdi"))
    if info.get("CDISpecDirs") is not None:
        directories, source = info["CDISpecDirs"], "docker info"
        cdi = cdi if cdi == "no" else "on" if directories else "off"
    runtimes = _member(said, "runtimes") | _member(info, "Runtimes")
    notes.append(_gpus(machine, known))
    return Finding(
        engine=NAME,
        program=program,
        version=known,
        rootless=own,
        cdi=cdi,
        newest_cdi_version=newest_cdi_version(NAME, known),
        spec_directories=tuple(str(each) for each in directories) if cdi != "no" else (),
        source=source,
        runtimes=tuple(
            (name, str(entry.get("path") or entry.get("runtimeType") or ""))
            for name, entry in runtimes.items()
            if isinstance(entry, dict) and is_nvidia(name, str(entry.get("path", "")))
        ),
        notes=tuple(notes),
    )


def _cdi(known: str | None, feature: Any) -> str:
    if version.before(known, FIRST_WITH_CDI):
        return "no"
    if isinstance(feature, bool):
        return "on" if feature else "off"
    by_default = version.before(known, ON_BY_DEFAULT)
    return "unknown" if by_default is None else "off" if by_default else "on"


def _gpus(machine: Machine, known: str | None) -> str:
    """What ``docker run --gpus`` comes to: by which program in dockerd's PATH."""
    by_cdi = not version.before(known, FIRST_WITH_GPUS_BY_CDI)
    for name in (GPUS_BY_CDI, GPUS_BY_HOOK) if by_cdi else (GPUS_BY_HOOK,):
        program = machine.found(name, USUAL_DIRECTORIES)
        if program:
            return f"--gpus: dockerd finds {program}"
    if by_cdi:
        return f"--gpus: dockerd finds no {GPUS_BY_CDI}; it may look in the specs alone"
    return f"--gpus does not work: dockerd finds no {GPUS_BY_HOOK}"
