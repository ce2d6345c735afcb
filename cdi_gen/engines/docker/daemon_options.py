# SPDX-License-Identifier: Apache-2.0
"""The options that dockerd is started with: it does not start if ``daemon.json`` repeats one.

They are read from its unit and the unit's drop-ins, and from the running process, since a unit may
take options from the environment.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.engines.machine import Machine
from cdi_gen.engines.text.syntax import Path
from cdi_gen.errors import CdiGenError

KEYS: dict[str, Path] = {
    "--default-runtime": ("default-runtime",),
    "--cdi-spec-dir": ("cdi-spec-dirs",),
    "--feature": ("features", "cdi"),
}
"""Options that exclude their key in the file; ``--add-runtime`` and ``runtimes`` go together."""

_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


class Option(NamedTuple):
    """An option that dockerd is started with."""

    name: str
    value: str
    source: str
    """The file that contains it, or the process."""


def options(machine: Machine) -> Iterator[Option]:
    """The options of `KEYS` that the machine's dockerd is started with."""
    for program, words in machine.processes("dockerd"):
        yield from _options_in(list(words), f"the running {program}")
    units = [f"{directory}/docker.service" for directory in _UNIT_DIRECTORIES]
    first = next(filter(machine.exists, units), None)
    drop_ins = [path for unit in reversed(units) for path in machine.files(f"{unit}.d", ".conf")]
    commands: list[tuple[str, str]] = []
    for path in (*([first] if first else []), *drop_ins):
        for line in _lines(machine, path):
            name, _, command = line.partition("=")
            if name.strip() == "ExecStart":
                # An empty one cancels those before it.
                commands = [*commands, (path, command)] if command.strip() else []
    for path, command in commands:
        yield from _options_in(_words(command), path)


def _lines(machine: Machine, path: str) -> list[str]:
    try:
        text = machine.text(path) or ""
    except CdiGenError:
        return []  # systemd cannot read it either
    return text.replace("\\\n", " ").splitlines()


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _options_in(words: list[str], source: str) -> Iterator[Option]:
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name in KEYS:
            yield Option(name, value if equals else following, source)


def reject_keys_set_by_options(machine: Machine, keys: set[Path]) -> None:
    """Reject a change of the file that sets a key which an option sets already.

    Raises:
        CdiGenError: dockerd would not start.
    """
    for option in options(machine):
        if KEYS[option.name] in keys:
            raise CdiGenError(
                f"{option.source} has {option.name} {option.value}: dockerd does not start if "
                f"daemon.json sets {KEYS[option.name][0]} too",
                hint="remove that option, and run the command again",
                code="CDG-E010",
                subject=option.source,
            )
