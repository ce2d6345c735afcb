# SPDX-License-Identifier: Apache-2.0
"""What a person is to write for containerd where cdi-gen cannot: a template that is no TOML."""

from __future__ import annotations

import re

from cdi_gen.engines import version
from cdi_gen.engines.containerd.daemons import BASE, Daemon, has_actions, is_made_anew
from cdi_gen.engines.containerd.runtimes import settings
from cdi_gen.engines.containerd.versions import FIRST_WITH_CDI, ON_BY_DEFAULT, plugin_of
from cdi_gen.engines.plan import ByHand, Plan, Wishes
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.toml_text import Table
from cdi_gen.paths import base_name, parent

_VERSION = re.compile(r"^version\s*=\s*([1-9]\d?)\s*(?:#.*)?$", re.MULTILINE)


def is_for_a_person(path: str, text: str | None, daemon: Daemon) -> bool:
    """Whether nothing can be written to a file: it is no TOML, or what is written to it is lost.

    A template of Rancher's that is not there yet counts: made of our tables alone it would take the
    place of all that k3s says to its containerd.
    """
    return (
        has_actions(text)
        or _is_missing(path, text)
        or is_made_anew(path, text, daemon.distribution)
    )


def by_hand(path: str, text: str | None, found: str | None, wishes: Wishes, daemon: Daemon) -> Plan:
    """What to write, and where.

    Args:
        path: of the file that was named.
        text: what is in it.
        found: the version of the containerd that reads it.
        wishes: what is asked for.
        daemon: that containerd.
    """
    newer = version.before(found, ON_BY_DEFAULT) is False
    template = has_actions(text) or _is_missing(path, text)
    known = _template_version(path, text, newer=newer) if template else 3 if newer else 2
    cdi = wishes.cdi and not newer and not version.before(found, FIRST_WITH_CDI)
    runtime = wishes.runtime and wishes.runtime._replace(default=False)
    table: Table = {}
    for each, value in settings({}, cdi=cdi, runtime=runtime, file_version=3, containerd=found):
        place = table.setdefault("plugins", {}).setdefault(plugin_of(known), {})
        for name in each[:-1]:
            place = place.setdefault(name, {})
        place[each[-1]] = value
    where = path
    if _is_missing(path, text):
        where = f"{path}, a new file, after a first line {BASE}"
    elif daemon.distribution and not template:
        where = daemon.distribution.advice.format(
            directory=parent(path), suffix="-v3" if newer else "", name=daemon.distribution.name
        )
    why = "is a template" if template else "is made anew at every start"
    restart = daemon.distribution.restart if daemon.distribution else None
    written = toml_text.render(table) if table else None
    return Plan(restart=restart, by_hand=ByHand(path, why, where, written))


def _is_missing(path: str, text: str | None) -> bool:
    return text is None and path.endswith(".tmpl")


def _template_version(path: str, text: str | None, *, newer: bool) -> int:
    """The version of the configuration that a template makes: what it says, or its base has."""
    said = _VERSION.search(text or "")
    if said:
        return int(said[1])
    if path.endswith(".tmpl") and (text is None or "template" in text):
        return 3 if base_name(path).startswith("config-v3.") else 2
    return 1 if text and not newer else 3 if newer else 2
