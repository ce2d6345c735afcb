# SPDX-License-Identifier: Apache-2.0
"""What is asked for of an engine, and what is to be done for it: values, and no doing."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cdi_gen.engines.change.record import Value
from cdi_gen.engines.change.reversal import Stays
from cdi_gen.engines.text.syntax import Path, Syntax
from cdi_gen.errors import UsageError

SPEC_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
"""Where the standard has engines look, rising in priority."""

_RUN = "/var/run/"  # which is a link to /run on every host with systemd

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
    runtime_name: str | None = None
    """Of what is taken back, this runtime alone; None: every one that was registered."""
    rootless: bool = False
    """The configuration of this user's own engine, and not the machine's."""
    configuration: str | None = None
    """Instead of the usual file."""
    drop_in: str | None = None
    """Instead of the usual one."""
    back: bool = False
    """What was done is to be taken back, and nothing else is asked for."""
    executable: str | None = None
    """The engine's own program, whose version counts."""
    hook: str | None = None
    """The prestart hook's program, to be run through a file in hooks.d."""


def _nothing_stays(_value: Value, _made: str | None) -> str | None:
    return None


class Change(NamedTuple):
    """What becomes of one file."""

    path: str
    make: Callable[[str | None], str | None]
    """From its text to the text it is to have; None is no file."""
    syntax: Syntax | None = None
    """None of a file that is written as a whole."""
    paths: tuple[Path, ...] = ()
    """Where `make` may set a value: what it sets there is recorded, and taken back from there."""
    stays: Stays = _nothing_stays
    """What is ours and must stay when the file is taken back."""
    mode: int = 0o644
    """Of a new file."""


class ByHand(NamedTuple):
    """What a person is to write, for cdi-gen cannot."""

    path: str
    why: str
    """What the path is, that nothing is written to it."""
    where: str
    """The file in its place, or where in it."""
    text: str | None
    """None if nothing is needed."""


class Plan(NamedTuple):
    """What is to be done, in this order, and said."""

    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    restart: str | None = None
    """The command after which a change has effect; None where the next container has it."""
    by_hand: ByHand | None = None
    """In the place of changes."""


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


def place(directory: str) -> str:
    """A directory as it is compared: with or without a slash at its end, in /run or /var/run."""
    path = posixpath.normpath(directory)
    return f"/run/{path.removeprefix(_RUN)}" if path.startswith(_RUN) else path


def in_usual_places(directories: Iterable[object]) -> bool:
    """Whether one of the directories is where the standard has specs."""
    return not {*map(place, SPEC_DIRECTORIES)}.isdisjoint(place(str(each)) for each in directories)


def refuse(engine: str, wishes: Wishes, *options: str) -> None:
    """Refuse options that mean nothing for an engine.

    Raises:
        UsageError: one of them was given.
    """
    given = {
        "--config": wishes.configuration,
        "--executable-path": wishes.executable,
        "--drop-in": wishes.drop_in,
        "--oci-hook": wishes.hook,
        "--rootless": wishes.rootless,
        "--runtime": wishes.runtime,
    }
    for option in options:
        if given[option]:
            raise UsageError(f"{engine} has no use for {option}", hint="leave it out")
