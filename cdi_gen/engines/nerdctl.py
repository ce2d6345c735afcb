# SPDX-License-Identifier: Apache-2.0
"""nerdctl, which looks for CDI specs itself: ``nerdctl.toml``, and no drop-ins."""

from __future__ import annotations

from cdi_gen.engines import version
from cdi_gen.engines.known import newest_cdi_version
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import SPEC_DIRECTORIES, Change, Finding, Plan, Wishes, place, refuse
from cdi_gen.engines.settings import edited
from cdi_gen.engines.text import toml_text
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.paths import join

NAME = "nerdctl"
FILE = "/etc/nerdctl/nerdctl.toml"

FIRST_WITH_CDI = (2, 1)
"""nerdctl#4170."""

_DIRECTORIES = ("cdi_spec_dirs",)


def plan(wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for nerdctl."""
    refuse(NAME, wishes, "--drop-in", "--executable-path", "--oci-hook")
    if wishes.runtime:
        raise UsageError(
            "nerdctl takes a runtime by its path alone",
            hint=f"nerdctl run --runtime {wishes.runtime.path}",
        )
    path = wishes.configuration or _file(machine, rootless=wishes.rootless)
    found = machine.version(machine.program(NAME))
    there = toml_text.parse(machine.text(path), path).get("cdi_spec_dirs")
    notes, warnings = [], []
    every = _users_directories(machine)
    ours = []
    if wishes.cdi and version.before(found, FIRST_WITH_CDI):
        warnings.append(f"nerdctl {found} knows no CDI (2.1 does)")
    elif wishes.cdi:
        notes.append("nerdctl takes CDI devices by itself")
        if wishes.rootless and there is None:
            ours = [(_DIRECTORIES, [*every])]
        elif wishes.rootless and not _are(there, every):
            warnings.append(f"{path} says where specs are looked for: it is left as it is")

    change = Change(path, lambda text: edited(text, ours), toml_text.TOML, (_DIRECTORIES,))
    return Plan((change,), tuple(notes), tuple(warnings))


def _are(there: object, directories: tuple[str, ...]) -> bool:
    """Whether a file names these directories, compared as paths."""
    return isinstance(there, list) and [*map(place, map(str, there))] == [*map(place, directories)]


def _file(machine: Machine, *, rootless: bool) -> str:
    own = join(machine.config_home, "nerdctl/nerdctl.toml")
    return machine.environment.get("NERDCTL_TOML") or (own if rootless else FILE)


def _own_directories(machine: Machine) -> tuple[str, ...]:
    """Where it looks for a user of its own, and there alone."""
    return join(machine.config_home, "cdi"), join(machine.runtime_directory, "cdi")


def _users_directories(machine: Machine) -> tuple[str, ...]:
    return (*SPEC_DIRECTORIES, *_own_directories(machine))


def findings(machine: Machine) -> list[Finding]:
    """Nerdctl as it is for this user."""
    program = machine.program(NAME)
    if not program:
        return []
    found = machine.version(program)
    rootless = machine.uid != 0
    path = _file(machine, rootless=rootless)
    notes: tuple[str, ...] = ()
    listed = None
    try:
        listed = toml_text.parse(machine.text(path), path).get("cdi_spec_dirs")
    except CdiGenError as error:
        notes = (error.message,)
    usual = _own_directories(machine) if rootless else SPEC_DIRECTORIES
    no = version.before(found, FIRST_WITH_CDI)
    return [
        Finding(
            engine=NAME,
            program=program,
            version=found,
            rootless=rootless,
            cdi="no" if no else "on" if listed != [] else "off",
            newest_cdi_version=newest_cdi_version(NAME, found),
            spec_directories=() if no else tuple(listed if listed is not None else usual),
            source=path if listed is not None else "default",
            notes=notes,
        )
    ]
