# SPDX-License-Identifier: Apache-2.0
"""The status of an installed engine: its version, and its support of CDI devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.cdi import consumers
from cdi_gen.engines.runtimes import is_nvidia
from cdi_gen.errors import CdiGenError

CdiState = Literal["on", "off", "no", "unknown"]
"""``no``: the version does not support CDI."""


class EngineStatus(NamedTuple):
    """An installed engine."""

    engine: str
    program: str | None
    version: str | None
    rootless: bool
    cdi: CdiState
    newest_cdi_version: str | None
    """The engine ignores spec files that claim a newer version."""
    spec_directories: tuple[str, ...]
    source: str
    """Where the spec directories are configured: a file, a program, or ``default``."""
    runtimes: tuple[tuple[str, str], ...] = ()
    """The names under which NVIDIA's runtime or ours is registered, with the programs."""
    findings: tuple[Finding, ...] = ()
    """Findings that an administrator should know."""
    default_runtime: str = ""
    """The name of the runtime that containers get by default; empty: the engine's built-in one."""


def engine_status(
    engine: str,
    *,
    program: str | None,
    version: str | None,
    rootless: bool = False,
    cdi_since: str,
    cdi: CdiState,
    spec_directories: Iterable[object],
    source: str,
    runtimes: Iterable[tuple[str, str]] = (),
    findings: Iterable[Finding] = (),
    default_runtime: object = None,
) -> EngineStatus:
    """The status of an engine; of an unknown version it is assumed that it supports CDI.

    Args:
        engine: the name of the engine.
        program: the path of its program.
        version: the version that the program prints.
        rootless: whether the configuration is that of a user's own engine.
        cdi_since: the first version that supports CDI.
        cdi: whether CDI is on in a version that supports it.
        spec_directories: the directories in which such a version searches for specs.
        source: the file or program that sets the directories.
        runtimes: names and programs of all registered runtimes.
        findings: findings that an administrator should know.
        default_runtime: the name of the default runtime, if one is configured.
    """
    has_cdi = at_least(version, cdi_since, unknown=True)
    return EngineStatus(
        engine=engine,
        program=program,
        version=version,
        rootless=rootless,
        cdi=cdi if has_cdi else "no",
        newest_cdi_version=newest_cdi_version(engine, version),
        spec_directories=tuple(map(str, spec_directories)) if has_cdi else (),
        source=source,
        runtimes=tuple((name, path) for name, path in runtimes if is_nvidia(name, path)),
        findings=tuple(findings),
        default_runtime=str(default_runtime or ""),
    )


def cdi_state(version: str | None, *, configured: object, by_default_since: str) -> CdiState:
    """Whether CDI is enabled: by the configuration, else by the version's default."""
    if isinstance(configured, bool):
        return "on" if configured else "off"
    if version is None:
        return "unknown"
    return "on" if at_least(version, by_default_since, unknown=False) else "off"


def cdi_findings(
    engine: str,
    title: str,
    version: str | None,
    *,
    since: str,
    by_default: bool,
    fix: str = "",
) -> list[Finding]:
    """The findings of a request to enable CDI: the version has no CDI, or needs no setting.

    Args:
        engine: the name of the engine.
        title: the name of the engine in messages.
        version: the version of the engine.
        since: the first version that supports CDI; an unknown version is assumed to.
        by_default: whether such a version needs no setting.
        fix: what to do if the version does not support CDI.
    """
    if not at_least(version, since, unknown=True):
        message = f"{title} {version} does not support CDI ({since} and later do)"
        return [Finding("CDG-E102", "warning", message, subject=engine, fix=fix)]
    if by_default:
        message = f"{title} enables CDI by default"
        return [Finding("CDG-E101", "info", message, subject=engine)]
    return []


def unreadable(error: CdiGenError, path: str) -> Finding:
    """A configuration that cannot be read, as a finding about the engine's status."""
    message = error.message if path in error.message else f"{path}: {error.message}"
    return Finding(error.code, "warning", message, subject=path, fix=error.hint or "")


def newest_cdi_version(engine: str, version: str | None) -> str | None:
    """The newest CDI version that a release reads; None if the release is not in the table."""
    try:
        return consumers.find(f"{engine}@{version}").newest_cdi_version if version else None
    except consumers.UnknownConsumerError:
        return None
