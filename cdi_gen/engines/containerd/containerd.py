# SPDX-License-Identifier: Apache-2.0
"""containerd: a TOML file in one of three versions, and from version 2 on drop-ins.

CDI is a matter of its CRI plugin, which is Kubernetes' way in; ``ctr`` and nerdctl look for specs
themselves. A drop-in before containerd 2.1 replaces the whole table of a plugin and is not merged
into it (containerd#5837), so there it carries all that was said of the plugin before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cdi_gen.engines import low_level, version
from cdi_gen.engines.containerd.by_hand import by_hand, is_for_a_person
from cdi_gen.engines.containerd.daemons import daemon_of, has_actions, is_drop_in, is_template
from cdi_gen.engines.containerd.findings import findings
from cdi_gen.engines.containerd.imports import (
    imported,
    merged,
    said_at,
    section,
    spelled,
    with_import,
)
from cdi_gen.engines.containerd.imports import stays as import_stays
from cdi_gen.engines.containerd.runtimes import (
    CDI_DIRECTORIES,
    DEFAULT,
    ENABLE_CDI,
    RUNTIMES,
    low_level_runtime,
    settings,
)
from cdi_gen.engines.containerd.versions import (
    FILE,
    FIRST_THAT_MERGES,
    FIRST_WITH_CDI,
    NAME,
    ON_BY_DEFAULT,
    PLUGINS,
    file_version,
    first_version,
    plugin_of,
)
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import HEADER, Change, Plan, Wishes, in_usual_places, refuse
from cdi_gen.engines.runtimes import needed_as_default
from cdi_gen.engines.settings import Settings, edited
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_text import Table, get
from cdi_gen.errors import UsageError
from cdi_gen.paths import join, parent

__all__ = ["FILE", "NAME", "drop_in", "findings", "plan", "plugin_of"]

_DEFAULT_RUNTIME = ("containerd", "default_runtime", "runtime_type")
"""Of a table that is deprecated since containerd 1.3, and counts until 2.0 if it has a type."""

_NEWER = (
    "{} says version = 1: containerd 2.3 will not start with a newer drop-in; before you install "
    "it: containerd config migrate"
)

_RESTART = "systemctl restart containerd"
DROP_IN = "conf.d/99-nvidia.toml"

FIRST_WITH_VERSIONS_IN_ORDER = (2, 3)
"""From it on no imported file may have a newer version than the first one, and version 1 counts."""

CARRIED = (
    "# Before containerd 2.1 it replaces what other files say of the plugin, so it has all of it.\n"
)


def drop_in(
    text: str | None,
    section: Table,
    ours: Settings,
    *,
    file_version: int,
    carry: bool,
    whole: bool = True,
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
        whole: whether what is in it is ours as a whole.
    """
    plugin = ("plugins", plugin_of(file_version))
    if text is not None and not whole:
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


def _kept(had: Table, section: Table) -> Iterator[tuple[Path, Any]]:
    """What our drop-in set: all that is not there without it."""
    if said_at(had, ENABLE_CDI) is True:
        yield spelled(section, ENABLE_CDI), True
    runtimes = said_at(section, RUNTIMES) or {}
    own = {
        name: entry
        for name, entry in (said_at(had, RUNTIMES) or {}).items()
        if name not in runtimes
    }
    for name, entry in own.items():
        yield (*spelled(section, RUNTIMES), name), entry
    default = said_at(had, DEFAULT)
    if default in own:
        yield spelled(section, DEFAULT), default


def plan(wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for containerd."""
    refuse(NAME, wishes, "--rootless", "--oci-hook")
    path = wishes.configuration or FILE
    text = machine.text(path)
    if wishes.back:
        return Plan(_back(path, text, wishes, machine), restart=_RESTART)
    daemon = daemon_of(path, FILE, wishes.executable, machine)
    found = machine.version(daemon.program)
    restart = daemon.distribution.restart if daemon.distribution else _RESTART
    if is_for_a_person(path, text, daemon):
        return by_hand(path, text, found, wishes, daemon)
    ours_at = wishes.drop_in or join(parent(path), DROP_IN)
    others = imported(path, text, machine)
    others.pop(ours_at, None)
    known = file_version(text, found, path)
    alone = is_template(path, text) or is_drop_in(path, daemon.distribution)
    first = first_version([text or "", *others.values()])
    notes: list[str] = []
    warnings: list[str] = []
    if version.before(found, FIRST_WITH_VERSIONS_IN_ORDER) is False:
        known = first or 3
    elif known == 1 and (version.before(found, ON_BY_DEFAULT) is False or machine.is_ours(ours_at)):
        known = 3  # containerd 2 does not look at the plugin's table of version 1
        warnings += [_NEWER.format(path)] * (first == 1)
    alone = alone or known == 1
    if alone and wishes.drop_in:
        what = "is a template" if known > 1 else "has version 1"
        raise UsageError(f"{path} {what}, which knows no drop-ins", hint="leave out --drop-in")
    if not ours_at.endswith(".toml"):
        raise UsageError(f"--drop-in {ours_at}: containerd imports *.toml")
    merges = version.before(found, FIRST_THAT_MERGES) is False
    said = section([text or "", *others.values()], plugin_of(known), merges=merges)
    if daemon.distribution:
        notes.append(f"{path} is of {daemon.distribution.name}: containerd {found or 'unknown'}")
    warnings += _warnings(path, text, said, found, wishes)
    if not alone:
        warnings += _overruled(others, ours_at, wishes, plugin_of(known), merges=merges)
    too_old = version.before(found, FIRST_WITH_CDI)
    by_default = version.before(found, ON_BY_DEFAULT) is False
    if by_default and said_at(said, ENABLE_CDI) is not False:
        notes.append(f"containerd {found} takes CDI devices by itself")
        too_old = True
    runs = low_level_runtime(said, found, machine) if wishes.runtime else None
    wishes, launcher, more = low_level.told(NAME, FILE, wishes, runs, machine)

    def ours(said: Table, below: Table | None = None) -> Settings:
        cdi = wishes.cdi and not too_old
        every = settings(
            said,
            cdi=cdi,
            runtime=wishes.runtime,
            file_version=known,
            containerd=found,
            below=below,
        )
        # What NVIDIA's toolkit or a distribution has written already needs no drop-in.
        return [(path, value) for path, value in every if get(said, path) != value]

    changes = (
        _main_file(path, said, ours(said), known)
        if alone
        else _drop_in(path, ours_at, said, ours, machine, known, carry=not merges)
    )
    return Plan((*launcher, *changes), tuple(notes), (*warnings, *more), restart)


def _warnings(
    path: str, text: str | None, said: Table, found: str | None, wishes: Wishes
) -> Iterator[str]:
    """What will keep containers from their devices, and is a person's to change."""
    if wishes.cdi and version.before(found, FIRST_WITH_CDI):
        yield f"containerd {found} knows no CDI (1.7 does)"
    directories = said_at(said, CDI_DIRECTORIES)
    if wishes.cdi and isinstance(directories, list) and not in_usual_places(directories):
        yield f"cdi_spec_dirs of containerd are {directories}: specs in /etc/cdi do not count"
    default = wishes.runtime and wishes.runtime.default
    if default and version.before(found, (2, 0)) and said_at(said, _DEFAULT_RUNTIME):
        yield (
            f"{path} has the table default_runtime, which containerd 1 takes in the place of "
            "default_runtime_name: remove it"
        )
    if _without_cri(text):
        yield f"{path} switches the CRI plugin off (disabled_plugins)"


def _overruled(
    others: dict[str, str], ours_at: str, wishes: Wishes, plugin: str, *, merges: bool
) -> Iterator[str]:
    """What drop-ins that are read after ours say otherwise; before 2.1 anything replaces ours."""
    for name, text in others.items():
        if parent(name) != parent(ours_at) or name < ours_at:
            continue
        said = get(toml_text.parse(text), ("plugins", plugin))
        if isinstance(said, dict) and not merges:
            yield f"{name} is read after {ours_at}, and replaces what is said of CRI before"
        default = said_at(said or {}, DEFAULT)
        if wishes.runtime and wishes.runtime.default and default not in {None, wishes.runtime.name}:
            yield f"{name} is read after {ours_at}, and makes {default} the default"


def _back(path: str, text: str | None, wishes: Wishes, machine: Machine) -> tuple[Change, ...]:
    """The files that may be ours, whichever containerd reads them."""
    if has_actions(text):
        return ()
    ours_at = wishes.drop_in or join(parent(path), DROP_IN)
    others = imported(path, text, machine)
    others.pop(ours_at, None)
    known = file_version(machine.text(ours_at) or text, None, path)
    said = section([text or "", *others.values()], plugin_of(known), merges=True)
    _, launchers, _ = low_level.told(NAME, FILE, wishes, None, machine)
    files = _drop_in(path, ours_at, said, lambda *_: (), machine, known, carry=False)
    return *launchers, *files


def _paths(plugin: str, names: Iterable[str], said: Table) -> tuple[Path, ...]:
    """Where `settings` sets something."""
    runtimes = spelled(said, RUNTIMES)
    below = (
        spelled(said, ENABLE_CDI),
        *((*runtimes, name) for name in names),
        spelled(said, DEFAULT),
    )
    return (("version",), *(("plugins", plugin, *path) for path in below))


def _names(ours: Settings) -> list[str]:
    """The runtimes that are set."""
    return [path[-1] for path, _ in ours if path[-2:-1] == (RUNTIMES[-1],)]


def _main_file(path: str, said: Table, ours: Settings, known: int) -> tuple[Change, ...]:
    plugin = plugin_of(known)
    placed = [(("plugins", plugin, *each), value) for each, value in ours]

    def make(text: str | None) -> str | None:
        new = text is None and known > 1 and placed
        return edited(text, [(("version",), known), *placed] if new else placed)

    runtimes, default = (("plugins", plugin, *spelled(said, each)) for each in (RUNTIMES, DEFAULT))
    return (
        Change(
            path,
            make,
            toml_text.TOML,
            _paths(plugin, _names(ours), said),
            needed_as_default(toml_text.TOML, runtimes, default),
        ),
    )


def _drop_in(
    path: str,
    ours_at: str,
    said: Table,
    ours: Callable[[Table, Table | None], Settings],
    machine: Machine,
    known: int,
    *,
    carry: bool,
) -> tuple[Change, ...]:
    plugin = plugin_of(known)
    directory = parent(path)
    beside = [each for each in machine.files(parent(ours_at), ".toml") if each != ours_at]
    whole = machine.is_ours(ours_at)
    below = None if carry else said

    def make(text: str | None) -> str | None:
        here = said
        if text is not None and not whole:
            here = merged(said, get(toml_text.parse(text), ("plugins", plugin)) or {})
        wanted = ours(here, below)
        return drop_in(text, said, wanted, file_version=known, carry=carry, whole=whole)

    def importing(text: str | None) -> str | None:
        if not ours(said, below):
            return text
        return with_import(text, ours_at, directory=directory, file_version=known, alone=not beside)

    runtimes, default = (("plugins", plugin, *spelled(said, each)) for each in (RUNTIMES, DEFAULT))
    elsewhere = said_at(said, DEFAULT)
    defined = elsewhere in (said_at(said, RUNTIMES) or {})
    stays = needed_as_default(toml_text.TOML, runtimes, default, None if defined else elsewhere)
    names = _names(ours(said, below))
    imports = (spelled(toml_text.parse(machine.text(path)), ("imports",)), ("version",))
    needed = import_stays(ours_at, alone=not beside)
    own = needed_as_default(toml_text.TOML, runtimes, default)
    return (
        Change(ours_at, make, toml_text.TOML, _paths(plugin, names, said), stays),
        Change(
            path,
            importing,
            toml_text.TOML,
            imports,
            lambda value, made: own(value, made) or needed(value, made),
        ),
    )


def _without_cri(text: str | None) -> bool:
    said = said_at(toml_text.parse(text), ("disabled_plugins",))
    return isinstance(said, list) and any(plugin in said for plugin in PLUGINS.values())
