# SPDX-License-Identifier: Apache-2.0
"""The text to write by hand where cdi-gen cannot edit the file of containerd: in a template."""

from __future__ import annotations

import re

from cdi_base.versions import at_least
from cdi_gen.engines import facts
from cdi_gen.engines.containerd.daemons import BASE, Daemon, has_actions, is_generated
from cdi_gen.engines.containerd.runtimes import plugin_settings
from cdi_gen.engines.containerd.versions import plugin_of
from cdi_gen.engines.plan import ManualEdit, Plan, Request
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.toml_text import Table
from cdi_gen.paths import base_name, parent

_VERSION = re.compile(r"^version\s*=\s*([1-9]\d?)\s*(?:#.*)?$", re.MULTILINE)


def needs_manual_edit(path: str, text: str | None, daemon: Daemon) -> bool:
    """Whether cdi-gen cannot edit a file: it is not TOML, or an edit is lost at the next start.

    A template of Rancher's that does not exist yet counts too: if it had only our tables, it would
    replace the whole configuration that k3s generates.
    """
    return (
        has_actions(text)
        or _is_missing_template(path, text)
        or is_generated(path, text, daemon.distribution)
    )


def manual_plan(
    path: str, text: str | None, version: str | None, request: Request, daemon: Daemon
) -> Plan:
    """The text to write, and where.

    Args:
        path: of the file that the user named.
        text: of that file.
        version: of the containerd that reads it.
        request: what the user asks for.
        daemon: that containerd.
    """
    containerd = facts.containerd()
    by_default = at_least(version, containerd.cdi_by_default_since, unknown=False)
    has_cdi = at_least(version, containerd.cdi_since, unknown=True)
    is_template = has_actions(text) or _is_missing_template(path, text)
    if is_template:
        file_version = _template_version(path, text, newest=_newest_version(version))
    else:
        file_version = _newest_version(version)
    table = _tables(request, version, plugin_of(file_version), cdi=has_cdi and not by_default)
    edit = ManualEdit(
        path,
        "is a template" if is_template else "is generated at every start",
        _location(path, text, version, daemon, is_template=is_template),
        toml_text.render(table) if table else None,
    )
    restart = daemon.distribution.restart if daemon.distribution else None
    return Plan(restart=restart, manual=edit)


def _newest_version(containerd: str | None) -> int:
    """The newest version of the file that a containerd reads; 2 for an unknown containerd."""
    since = facts.containerd().file_version_3_since
    return 3 if at_least(containerd, since, unknown=False) else 2


def _tables(request: Request, version: str | None, plugin: str, *, cdi: bool) -> Table:
    """The tables to write; the administrator decides on the default runtime."""
    runtime = request.runtime and request.runtime._replace(default=False)
    settings = plugin_settings(
        {}, cdi=request.cdi and cdi, runtime=runtime, file_version=3, containerd=version
    )
    tables: Table = {}
    for path, value in settings:
        table = tables.setdefault("plugins", {}).setdefault(plugin, {})
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    return tables


def _location(
    path: str, text: str | None, version: str | None, daemon: Daemon, *, is_template: bool
) -> str:
    if _is_missing_template(path, text):
        return f"{path}, a new file, after a first line {BASE}"
    if is_template or not daemon.distribution:
        return path
    return daemon.distribution.advice.format(
        directory=parent(path),
        suffix="-v3" if _newest_version(version) == 3 else "",
        name=daemon.distribution.name,
    )


def _is_missing_template(path: str, text: str | None) -> bool:
    return text is None and path.endswith(".tmpl")


def _template_version(path: str, text: str | None, *, newest: int) -> int:
    """The version of the configuration that a template generates: its own, or that of its base."""
    version = _VERSION.search(text or "")
    if version:
        return int(version[1])
    if path.endswith(".tmpl") and (text is None or "template" in text):
        return 3 if base_name(path).startswith("config-v3.") else 2
    if newest == 3:
        return 3
    return 1 if text else 2
