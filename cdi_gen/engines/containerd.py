# SPDX-License-Identifier: Apache-2.0
"""containerd: a TOML file in one of three versions, and from version 2 on drop-ins.

CDI is a matter of its CRI plugin, which is Kubernetes' way in; ``ctr`` and nerdctl look for specs
themselves. A drop-in before containerd 2.1 replaces the whole table of a plugin and is not merged
into it (containerd#5837), so there it carries all that was said of the plugin before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cdi_gen.engines import toml_text, version
from cdi_gen.engines.containerd_imports import (
    imported,
    merged,
    section,
    with_import,
    without_import,
)
from cdi_gen.engines.known import newest_cdi_version
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import (
    HEADER,
    SPEC_DIRECTORIES,
    Change,
    Finding,
    Plan,
    Runtime,
    Wishes,
    refuse,
)
from cdi_gen.engines.runtimes import is_nvidia, like
from cdi_gen.engines.settings import Settings, edited, taken_back
from cdi_gen.engines.toml_text import Table, TOMLTextError, get
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.paths import join, parent

NAME = "containerd"
FILE = "/etc/containerd/config.toml"
DROP_IN = "conf.d/99-nvidia.toml"

PLUGINS = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
"""The CRI plugin's key in each version of the file; version 4 has it as 3 does."""

FIRST_WITH_CDI = (1, 7)
ON_BY_DEFAULT = (2, 0)
FIRST_THAT_MERGES = (2, 1)
RUNC = "io.containerd.runc.v2"

BUILT_IN = {"runtime_type": RUNC}
"""containerd 1 has a runtime runc, the default, as long as its configuration names none."""
_BUILT_IN = ("containerd", "runtimes", "runc")

CARRIED = (
    "# Before containerd 2.1 it replaces what other files say of the plugin, so it has all of it.\n"
)


def file_version(text: str | None, containerd: str | None, file: str | None = None) -> int:
    """The version of a configuration file: 1 if it does not say.

    A new file gets the newest that its containerd knows: 3 from 2.0 on.

    Raises:
        TOMLTextError: the version is no number, or none that is known.
    """
    if text is None or not text.strip():
        return 2 if version.before(containerd, (2, 0)) in (True, None) else 3
    said = toml_text.parse(text, file).get("version", 1)
    if type(said) is not int or said < 1:
        raise TOMLTextError(f"{file}: version = {said!r} is no version of a configuration file")
    return said


def plugin_of(file_version: int) -> str:
    """The key of the CRI plugin."""
    return PLUGINS[min(file_version, 3)]


def runtime_entry(section: Table, runtime: Runtime, file_version: int) -> Table:
    """The entry of a runtime: as the default one's in this section, but for the program."""
    default = get(section, ("containerd", "default_runtime_name"))
    runtimes = get(section, ("containerd", "runtimes")) or {}
    model = next((runtimes[name] for name in (default, "runc", "crun") if name in runtimes), None)
    if isinstance(model, dict):
        entry = like(model)
    elif file_version < 3:
        entry = {
            "runtime_type": RUNC,
            "runtime_root": "",
            "runtime_engine": "",
            "privileged_without_host_devices": False,
        }
    else:
        entry = {}
    if not entry.get("runtime_type"):
        entry["runtime_type"] = RUNC  # absent, the runtime can not be started
    options = dict(entry.get("options") or {})
    options["BinaryName"] = runtime.path
    if file_version == 1:
        options["Runtime"] = runtime.path
    entry["options"] = options
    return entry


def settings(
    section: Table,
    *,
    cdi: bool,
    runtime: Runtime | None,
    file_version: int,
    containerd: str | None = None,
) -> Settings:
    """The keys below the CRI plugin that are to be set, given what is said of it."""
    found: list[tuple[toml_text.Path, Any]] = []
    if cdi:
        found.append((("enable_cdi",), True))
    if runtime:
        first = not get(section, ("containerd", "runtimes"))
        if first and file_version < 3 and version.before(containerd, (2, 0)) is not False:
            found.append((_BUILT_IN, {**BUILT_IN}))
        entry = runtime_entry(section, runtime, file_version)
        found.append((("containerd", "runtimes", runtime.name), entry))
        if runtime.default:
            found.append((("containerd", "default_runtime_name"), runtime.name))
    return found


def drop_in(
    text: str | None, section: Table, ours: Settings, *, file_version: int, carry: bool
) -> str | None:
    """The drop-in with our settings.

    One that is not there or ours as a whole is made anew: with the section of the plugin where it
    must carry that, and with the settings of ours that it had. Of somebody else's these keys alone
    are changed.

    Args:
        text: what is in it; None if there is none.
        section: what is said of the plugin elsewhere.
        ours: what is to be set below the plugin.
        file_version: of the configuration.
        carry: whether a drop-in replaces what is said elsewhere.
    """
    plugin = ("plugins", plugin_of(file_version))
    if text is not None and not text.startswith(HEADER):
        return edited(text, [((*plugin, *path), value) for path, value in ours])
    kept = [*_kept(get(toml_text.parse(text), plugin) or {}, section)] if text else []
    every = dict([*kept, *ours])
    if not every:
        return text
    table: Table = {"version": file_version, "plugins": {plugin[1]: {}}}
    if carry:
        table["plugins"][plugin[1]] = toml_text.parse(toml_text.render(section))
    for path, value in every.items():
        place = table["plugins"][plugin[1]]
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return HEADER + (CARRIED if carry else "") + toml_text.render(table)


def _kept(had: Table, section: Table) -> Iterator[tuple[toml_text.Path, Any]]:
    """What our drop-in set: all that is not there without it."""
    if had.get("enable_cdi") is True:
        yield ("enable_cdi",), True
    runtimes = get(section, ("containerd", "runtimes")) or {}
    own = {
        name: entry
        for name, entry in (get(had, ("containerd", "runtimes")) or {}).items()
        if name not in runtimes
    }
    for name, entry in own.items():
        yield ("containerd", "runtimes", name), entry
    default = get(had, ("containerd", "default_runtime_name"))
    if default in own:
        yield ("containerd", "default_runtime_name"), default


def plan(wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for containerd."""
    refuse(NAME, wishes, "--rootless", "--oci-hook")
    path = wishes.configuration or FILE
    text = machine.text(path)
    found = machine.version(machine.program(NAME))
    ours_at = wishes.drop_in or join(parent(path), DROP_IN)
    known = file_version(text, found, path)
    drop_in_is_ours = (machine.text(ours_at) or "").startswith(HEADER)
    if known == 1 and (version.before(found, (2, 0)) is False or drop_in_is_ours):
        known = 3  # containerd 2 does not look at the plugin's table of version 1
    if known == 1 and wishes.drop_in:
        raise UsageError(
            f"{path} has version 1, which knows no drop-ins", hint="leave out --drop-in"
        )
    if not ours_at.endswith(".toml"):
        raise UsageError(f"--drop-in {ours_at}: containerd imports *.toml")
    others = imported(path, text, machine)
    others.pop(ours_at, None)
    merges = version.before(found, FIRST_THAT_MERGES) is False
    said = section([text or "", *others.values()], plugin_of(known), merges=merges)
    notes, warnings = [], []
    too_old = version.before(found, FIRST_WITH_CDI)
    if wishes.cdi and too_old:
        warnings.append(f"containerd {found} knows no CDI (1.7 does)")
    by_default = version.before(found, ON_BY_DEFAULT) is False
    if by_default and said.get("enable_cdi") is not False:
        notes.append(f"containerd {found} takes CDI devices by itself")
        too_old = True
    if _without_cri(text):
        warnings.append(f"{path} switches the CRI plugin off (disabled_plugins)")

    def ours(said: Table) -> Settings:
        cdi = wishes.cdi and not too_old
        return settings(said, cdi=cdi, runtime=wishes.runtime, file_version=known, containerd=found)

    changes = (
        _main_file(path, ours(said), wishes)
        if known == 1
        else _drop_in(path, ours_at, said, ours, wishes, machine, known, carry=not merges)
    )
    return Plan(changes, tuple(notes), tuple(warnings), "systemctl restart containerd")


def _main_file(path: str, ours: Settings, wishes: Wishes) -> tuple[Change, ...]:
    plugin = ("plugins", PLUGINS[1])
    placed = [((*plugin, *each), value) for each, value in ours]

    def back(text: str, before: str | None) -> str | None:
        return _main_file_back(text, before, wishes.runtime_name)

    return (Change(path, lambda text: edited(text, placed), back),)


def _main_file_back(text: str, before: str | None, name: str) -> str | None:
    return taken_back(text, before, _our_paths(text, before, ("plugins", PLUGINS[1]), name))


def _our_paths(
    text: str, before: str | None, plugin: toml_text.Path, name: str
) -> list[toml_text.Path]:
    """The keys in a file that `settings` gives, in its order."""
    said = get(toml_text.parse(text), plugin) or {}
    built_in = (*plugin, *_BUILT_IN)
    paths: list[toml_text.Path] = []
    if said.get("enable_cdi") is True:
        paths.append((*plugin, "enable_cdi"))
    if get(said, _BUILT_IN) == BUILT_IN and before and not get(toml_text.parse(before), built_in):
        paths.append(built_in)
    paths.append((*plugin, "containerd", "runtimes", name))
    if get(said, ("containerd", "default_runtime_name")) == name:
        paths.append((*plugin, "containerd", "default_runtime_name"))
    return paths


def _drop_in(
    path: str,
    ours_at: str,
    said: Table,
    ours: Callable[[Table], Settings],
    wishes: Wishes,
    machine: Machine,
    known: int,
    *,
    carry: bool,
) -> tuple[Change, ...]:
    plugin, cri = ("plugins", plugin_of(known)), ("plugins", PLUGINS[1])
    directory = parent(path)
    beside = [each for each in machine.files(parent(ours_at), ".toml") if each != ours_at]

    def make(text: str | None) -> str | None:
        here = said
        if text is not None and not text.startswith(HEADER):
            here = merged(said, get(toml_text.parse(text), plugin) or {})
        return drop_in(text, said, ours(here), file_version=known, carry=carry)

    def back(text: str, before: str | None) -> str | None:
        return taken_back(text, before, _our_paths(text, before, plugin, wishes.runtime_name))

    def importing(text: str | None) -> str | None:
        if not ours(said):
            return text
        return with_import(text, ours_at, directory=directory, file_version=known, alone=not beside)

    def not_importing(text: str, before: str | None) -> str | None:
        if get(toml_text.parse(text), (*cri, "containerd", "runtimes", wishes.runtime_name)):
            # From before containerd was renewed: it was version 1's file then.
            return _main_file_back(text, before, wishes.runtime_name)
        return without_import(text, before, ours_at, directory, alone=not beside)

    return Change(ours_at, make, back), Change(path, importing, not_importing)


def _without_cri(text: str | None) -> bool:
    said = toml_text.parse(text).get("disabled_plugins")
    return isinstance(said, list) and any(plugin in said for plugin in PLUGINS.values())


def findings(machine: Machine) -> list[Finding]:
    """The containerd that is installed, as it is or as its files have it be."""
    program = machine.program(NAME)
    if not program:
        return []
    found = machine.version(program)
    notes: list[str] = []
    source, said = "containerd config dump", _dumped(machine, program) if found else None
    if said is None:
        try:
            source, said = _from_files(machine, found)
        except CdiGenError as error:
            source, said = FILE, {}
            notes.append(error.message)
    if not said and not notes:
        source = "default"
    enabled = said.get("enable_cdi")
    if version.before(found, FIRST_WITH_CDI):
        cdi = "no"
    elif isinstance(enabled, bool):
        cdi = "on" if enabled else "off"
    else:
        by_default = version.before(found, ON_BY_DEFAULT)
        cdi = "unknown" if by_default is None else "off" if by_default else "on"
    directories = said.get("cdi_spec_dirs")
    if not isinstance(directories, list):
        directories = [*SPEC_DIRECTORIES]
    runtimes = get(said, ("containerd", "runtimes")) or {}
    programs = [
        (name, str(get(entry, ("options", "BinaryName")) or "")) for name, entry in runtimes.items()
    ]
    return [
        Finding(
            engine=NAME,
            program=program,
            version=found,
            rootless=False,
            cdi=cdi,
            newest_cdi_version=newest_cdi_version(NAME, found),
            spec_directories=tuple(map(str, directories)) if cdi != "no" else (),
            source=source,
            runtimes=tuple(each for each in programs if is_nvidia(*each)),
            notes=tuple(notes),
        )
    ]


def _dumped(machine: Machine, program: str) -> Table | None:
    """What containerd says that it would do, its drop-ins and defaults included."""
    printed = machine.output(program, "config", "dump")
    if not printed:
        return None
    try:
        plugin = plugin_of(file_version(printed, None))
        return section([printed], plugin, merges=True)
    except TOMLTextError:
        return None


def _from_files(machine: Machine, found: str | None) -> tuple[str, Table]:
    text = machine.text(FILE)
    plugin = plugin_of(file_version(text, found, FILE))
    texts = {FILE: text or "", **imported(FILE, text, machine)}
    merges = version.before(found, FIRST_THAT_MERGES) is False
    said = section([*texts.values()], plugin, merges=merges)
    return ", ".join(name for name, each in texts.items() if each), said
