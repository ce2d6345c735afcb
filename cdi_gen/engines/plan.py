# SPDX-License-Identifier: Apache-2.0
"""What is asked for of an engine, and what is to be done for it: values, and no doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cdi_gen.errors import UsageError

SPEC_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
"""Where the standard has engines look, rising in priority."""

HEADER = "# Written by cdi-gen engine configure; cdi-gen engine unconfigure removes it.\n"
"""The first line of a drop-in that is ours as a whole."""


class Runtime(NamedTuple):
    """A runtime that is to be registered."""

    name: str
    path: str
    default: bool = False
    """Whether containers that ask for none get it."""


class Wishes(NamedTuple):
    """What is asked for."""

    cdi: bool = True
    runtime: Runtime | None = None
    runtime_name: str = "nvidia"
    """The runtime that `undo` removes."""
    rootless: bool = False
    """The configuration of this user's own engine, and not the machine's."""
    configuration: str | None = None
    """Instead of the usual file."""
    drop_in: str | None = None
    """Instead of the usual one."""
    hook: str | None = None
    """The prestart hook's program, to be run through a file in hooks.d."""


class Change(NamedTuple):
    """What becomes of one file."""

    path: str
    make: Callable[[str | None], str | None]
    """From its text to the text it is to have; None is no file."""
    undo: Callable[[str, str | None], str | None]
    """From its text, and that of its backup, to the text without ours; None is no file."""


class Plan(NamedTuple):
    """What is to be done, in this order, and said."""

    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    restart: str | None = None
    """The command after which a change has effect; None where the next container has it."""


class Finding(NamedTuple):
    """What is known of an engine that is installed."""

    engine: str
    program: str | None
    version: str | None
    rootless: bool
    cdi: str
    """``on``, ``off``, ``no`` (this version knows none) or ``unknown``."""
    newest_cdi_version: str | None
    """It ignores spec files that claim a newer one."""
    spec_directories: tuple[str, ...]
    source: str
    """What says so: a file, a program, or ``default``."""
    runtimes: tuple[tuple[str, str], ...] = ()
    """NVIDIA's runtime, or ours, under what names: (name, program)."""
    notes: tuple[str, ...] = ()
    """What is not as one would expect."""


def refuse(engine: str, wishes: Wishes, *options: str) -> None:
    """Refuse options that mean nothing for an engine.

    Raises:
        UsageError: one of them was given.
    """
    given = {
        "--config": wishes.configuration,
        "--drop-in": wishes.drop_in,
        "--oci-hook": wishes.hook,
        "--rootless": wishes.rootless,
        "--runtime": wishes.runtime,
    }
    for option in options:
        if given[option]:
            raise UsageError(f"{engine} has no use for {option}")


def undone(
    text: str,
    before: str | None,
    make: Callable[[str | None], str | None],
    remove: Callable[[str, str | None], str],
) -> str | None:
    """What a file becomes when our part of it is taken back.

    Exactly what it was before (``before``, its backup; None if there was no file) where nothing
    but ours was changed since; else ``remove(text, before)``, and no file where nothing is left.

    Args:
        text: what is in it now.
        before: what was in it once.
        make: what made the one of the other.
        remove: takes our keys, and nothing else, out of it.
    """
    if make(before) == text:
        return before
    left = remove(text, before)
    return left if before is not None or left.strip() not in {"", "{}"} else None
