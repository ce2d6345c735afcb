# SPDX-License-Identifier: Apache-2.0
"""The changes that enable CDI devices in containerd, and register a runtime.

In containerd the CRI plugin, which serves Kubernetes, implements CDI; ``ctr`` and nerdctl read
specs themselves. The configuration is a TOML file in one of four versions; from version 2 on it may
have drop-ins.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.engines import facts, low_level_runtime, spec_directories
from cdi_gen.engines.containerd.daemons import (
    daemon_of,
    distribution_of,
    has_actions,
    is_drop_in,
    is_template,
)
from cdi_gen.engines.containerd.drop_in import drop_in_changes, main_file_change
from cdi_gen.engines.containerd.generated import imported_drop_in
from cdi_gen.engines.containerd.imports import imported_files, plugin_section, value_at
from cdi_gen.engines.containerd.manual import manual_plan, needs_manual_edit
from cdi_gen.engines.containerd.runtimes import (
    CDI_DIRECTORIES,
    DEFAULT,
    ENABLE_CDI,
    low_level_program,
    plugin_settings,
)
from cdi_gen.engines.containerd.versions import file_version, first_version, plugin_of
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change, Plan, Request, Runtime, reject_options
from cdi_gen.engines.runtimes import another_default
from cdi_gen.engines.status import cdi_findings
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.toml_settings import Settings
from cdi_gen.engines.text.toml_text import Table, get
from cdi_gen.errors import UsageError
from cdi_gen.paths import join, parent

NAME = "containerd"

_DEFAULT_RUNTIME_TABLE = ("containerd", "default_runtime", "runtime_type")
"""A key of the table `default_runtime`, which counts if it has a type."""


def plan(request: Request, machine: Machine) -> Plan:
    """The changes for containerd; see `cdi_gen.engines.Engine`."""
    reject_options(NAME, request, "--rootless", "--oci-hook")
    containerd = facts.containerd()
    path = request.configuration or containerd.configuration
    text = machine.text(path)
    if request.revert:
        return Plan(_changes_to_revert(path, text, request, machine), restart=containerd.restart)
    daemon = daemon_of(path, containerd.configuration, request.executable, machine)
    version = machine.version(daemon.program)
    imported = imported_drop_in(path, text, daemon.distribution)
    if needs_manual_edit(path, text, daemon) and not imported:
        return manual_plan(path, text, version, request, daemon)
    drop_in = request.drop_in or imported or join(parent(path), containerd.drop_in)
    others = imported_files(path, text, machine)
    others.pop(drop_in, None)
    texts = [text or "", *others.values()]
    number, version_findings = _file_version(path, text, texts, version, machine, drop_in)
    has_drop_in = number > 1 and not (
        is_template(path, text) or is_drop_in(path, daemon.distribution)
    )
    _check_drop_in(path, drop_in, request, number, has_drop_in=has_drop_in)
    merges = at_least(version, containerd.merged_drop_ins_since, unknown=False)
    section = plugin_section(texts, plugin_of(number), merges=merges)
    has_cdi = at_least(version, containerd.cdi_since, unknown=True)
    by_default = at_least(version, containerd.cdi_by_default_since, unknown=False)
    is_on = by_default and value_at(section, ENABLE_CDI) is not False
    needs_cdi = request.cdi and has_cdi and not is_on
    findings: list[Finding] = []
    if daemon.distribution:
        message = (
            f"{path} belongs to {daemon.distribution.name}, with containerd {version or 'unknown'}"
        )
        findings.append(Finding("CDG-E112", "info", message, subject=path))
    if request.cdi or is_on:
        findings += cdi_findings(
            NAME,
            f"{NAME} {version}" if is_on else NAME,
            version,
            since=containerd.cdi_since,
            by_default=is_on,
        )
    findings += version_findings
    findings += _warnings(path, text, section, version, request)
    if has_drop_in:
        findings += _overriding_files(
            others, drop_in, request.runtime, plugin_of(number), merges=merges
        )
    low_level = low_level_program(section, version, machine) if request.runtime else None
    start = low_level_runtime.with_launcher(
        NAME, containerd.configuration, request, low_level, machine
    )

    def settings_for(section: Table, merged_with: Table | None) -> Settings:
        settings = plugin_settings(
            section,
            cdi=needs_cdi,
            runtime=start.request.runtime,
            file_version=number,
            containerd=version,
            merged_with=merged_with,
        )
        # No drop-in is needed for what NVIDIA's toolkit or a distribution has written already.
        return [(key, value) for key, value in settings if get(section, key) != value]

    changes: tuple[Change, ...]
    if has_drop_in:
        changes = drop_in_changes(
            path, drop_in, section, settings_for, machine, number, carry=not merges
        )
    else:
        changes = (main_file_change(path, section, settings_for(section, None), number),)
    return Plan(
        (*start.changes, *changes),
        (*findings, *start.findings),
        daemon.distribution.restart if daemon.distribution else containerd.restart,
        low_level=low_level,
    )


def _file_version(
    path: str,
    text: str | None,
    texts: list[str],
    version: str | None,
    machine: Machine,
    drop_in: str,
) -> tuple[int, list[Finding]]:
    """The version of the configuration in which to write, and warnings about it."""
    containerd = facts.containerd()
    own = file_version(text, version, path)
    first = first_version(texts)
    if at_least(version, containerd.ordered_file_versions_since, unknown=False):
        return first or 3, []
    reads_3 = at_least(version, containerd.file_version_3_since, unknown=False)
    if own == 1 and (reads_3 or machine.is_ours(drop_in)):
        # containerd 2 does not read the plugin's table of version 1.
        limit = containerd.ordered_file_versions_since
        finding = Finding(
            "CDG-E113",
            "warning",
            f"{path} has version = 1: containerd {limit} does not start with a newer drop-in",
            subject=path,
            fix=f"before you install containerd {limit}, run: containerd config migrate",
        )
        return 3, [finding] if first == 1 else []
    return own, []


def _check_drop_in(
    path: str, drop_in: str, request: Request, number: int, *, has_drop_in: bool
) -> None:
    """Reject a drop-in that containerd would not read.

    Raises:
        UsageError: containerd would not read the drop-in.
    """
    if not has_drop_in and request.drop_in:
        reason = "is a template" if number > 1 else "has version 1"
        raise UsageError(
            f"{path} {reason} and cannot have drop-ins",
            hint="leave out --drop-in",
            code="CDG-U002",
        )
    if not drop_in.endswith(".toml"):
        raise UsageError(f"--drop-in {drop_in}: containerd imports only *.toml", code="CDG-U002")


def _warnings(
    path: str, text: str | None, section: Table, version: str | None, request: Request
) -> Iterator[Finding]:
    """Warn of settings that prevent containers from getting devices, and that cdi-gen keeps."""
    containerd = facts.containerd()
    directories = value_at(section, CDI_DIRECTORIES)
    if (
        request.cdi
        and isinstance(directories, list)
        and not spec_directories.includes_a_default(directories)
    ):
        yield spec_directories.no_default_is_read(NAME, "cdi_spec_dirs", directories, path)
    is_default = request.runtime is not None and request.runtime.default
    table_counts = not at_least(version, containerd.default_runtime_table_until, unknown=True)
    if is_default and table_counts and value_at(section, _DEFAULT_RUNTIME_TABLE):
        yield Finding(
            "CDG-E116",
            "warning",
            f"{path} has the table default_runtime, which containerd {version} reads instead of "
            "default_runtime_name",
            subject=path,
            fix="remove the table",
        )
    if _disables_cri(text):
        message = f"{path} disables the CRI plugin (disabled_plugins)"
        yield Finding("CDG-E117", "warning", message, subject=path)


def _overriding_files(
    others: dict[str, str], drop_in: str, runtime: Runtime | None, plugin: str, *, merges: bool
) -> Iterator[Finding]:
    """Warn of drop-ins that containerd reads after ours and that replace its settings."""
    for name, text in others.items():
        if parent(name) != parent(drop_in) or name < drop_in:
            continue
        section = get(toml_text.parse(text), ("plugins", plugin))
        if isinstance(section, dict) and not merges:
            message = f"{name} is read after {drop_in} and replaces its section of the CRI plugin"
            yield Finding("CDG-E105", "warning", message, subject=name)
        default = value_at(section or {}, DEFAULT)
        if runtime and runtime.default and default not in {None, runtime.name}:
            yield another_default(name, drop_in, str(default))


def _disables_cri(text: str | None) -> bool:
    disabled = value_at(toml_text.parse(text), ("disabled_plugins",))
    plugins = facts.containerd().cri_plugins
    return isinstance(disabled, list) and any(plugin in disabled for plugin in plugins)


def _changes_to_revert(
    path: str, text: str | None, request: Request, machine: Machine
) -> tuple[Change, ...]:
    """The files that may have been changed, whichever containerd reads them."""
    if has_actions(text):
        return ()
    imported = imported_drop_in(path, text, distribution_of(path))
    drop_in = request.drop_in or imported or join(parent(path), facts.containerd().drop_in)
    others = imported_files(path, text, machine)
    others.pop(drop_in, None)
    number = file_version(machine.text(drop_in) or text, None, path)
    section = plugin_section([text or "", *others.values()], plugin_of(number), merges=True)
    start = low_level_runtime.with_launcher(
        NAME, facts.containerd().configuration, request, None, machine
    )
    changes = drop_in_changes(path, drop_in, section, lambda *_: (), machine, number, carry=False)
    return *start.changes, *changes
