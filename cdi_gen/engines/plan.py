# SPDX-License-Identifier: Apache-2.0
"""Value types for engine configuration: the request and the resulting plan. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.engines.change.record import Value
from cdi_gen.engines.change.reversal import Keep
from cdi_gen.engines.text.syntax import Path, Syntax
from cdi_gen.errors import UsageError


class Runtime(NamedTuple):
    """A runtime to register."""

    name: str
    path: str
    default: bool = False
    """Whether containers that request no runtime get this one."""


class Request(NamedTuple):
    """The user's request: to configure an engine, or to revert the configuration."""

    cdi: bool = True
    runtime: Runtime | None = None
    runtime_name: str | None = None
    """For a revert: the only runtime to remove; None: all registered runtimes."""
    rootless: bool = False
    """The configuration of this user's own engine, instead of the machine's."""
    configuration: str | None = None
    """The configuration file, instead of the default one."""
    drop_in: str | None = None
    """The drop-in, instead of the default one."""
    revert: bool = False
    """Revert what was configured; no other part of the request counts."""
    executable: str | None = None
    """The engine's program, whose version decides what is written."""
    hook: str | None = None
    """The prestart hook to run through a file in hooks.d."""
    launcher: bool = True
    """Write a launcher that names the low-level runtime, if the shim would not find it. False: the
    caller passes `Plan.low_level` to the shim."""


def _keep_nothing(_value: Value, _text: str | None) -> str | None:
    return None


class Change(NamedTuple):
    """A change of one file."""

    path: str
    edit: Callable[[str | None], str | None]
    """Returns the new text for the old one; None stands for no file."""
    syntax: Syntax | None = None
    """None for a file that is written as a whole."""
    keys: tuple[Path, ...] = ()
    """The paths at which `edit` may set a value; such values are recorded, and can be reverted."""
    keep: Keep = _keep_nothing
    """Which of our values a revert must keep."""
    mode: int = 0o644
    """The mode of a new file."""


class ManualEdit(NamedTuple):
    """Text that the administrator has to write to a file that cdi-gen cannot edit."""

    path: str
    reason: str
    """Why cdi-gen cannot edit the file: a predicate, with the path as its subject."""
    location: str
    """The file to edit instead, or the place in it."""
    text: str | None
    """None if nothing is needed."""


class Plan(NamedTuple):
    """The changes, in the order in which to make them, and findings about the engine."""

    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    restart: str | None = None
    """The command after which a change takes effect; None if no restart is needed."""
    manual: ManualEdit | None = None
    """Text to write by hand, instead of changes."""
    low_level: str | None = None
    """The low-level runtime that the engine used before the request; None if it is unknown."""


def reject_options(engine: str, request: Request, *options: str) -> None:
    """Reject options that an engine does not support.

    Raises:
        UsageError: one of them was given.
    """
    values = {
        "--config": request.configuration,
        "--executable-path": request.executable,
        "--drop-in": request.drop_in,
        "--oci-hook": request.hook,
        "--rootless": request.rootless,
        "--runtime": request.runtime,
    }
    for option in options:
        if values[option]:
            raise UsageError(
                f"{option} is not supported for {engine}",
                hint="leave out the option",
                code="CDG-E012",
            )
