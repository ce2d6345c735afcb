# SPDX-License-Identifier: Apache-2.0
"""Takes off what stands before an engine's program: ``sudo``, ``env``, assignments of variables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PROGRAMS = ("docker", "podman", "nerdctl", "buildah", "ctr", "docker-compose", "podman-compose")
"""The programs whose command lines are read."""

_NVIDIA_DOCKER = "nvidia-docker"
"""The script of the package nvidia-docker2, which starts docker."""

_WITH_VALUE = {
    "sudo": frozenset("CDghpRrTtuU"),
    "doas": frozenset("Cu"),
    "env": frozenset("uCS"),
    "nice": frozenset("n"),
    "time": frozenset({"f", "o"}),
    "exec": frozenset("a"),
    "nohup": frozenset(),
    "command": frozenset(),
    "systemd-run": frozenset("HMpu"),
    "systemd-inhibit": frozenset(),
}
"""The programs that start another program, with the letters of options that have a value."""
STARTERS = tuple(_WITH_VALUE)
_LONG_WITH_VALUE = frozenset(
    {"--user", "--group", "--host", "--prompt", "--chdir", "--unset", "--adjustment", "--unit"}
    | {"--property", "--description", "--slice", "--close-from", "--role", "--type"}
)
_AS_ROOT = ("sudo", "doas")
_ROOT = ("root", "0", "#0")


class CommandLine(NamedTuple):
    """A command line, without what stands before the program."""

    words: tuple[str, ...]
    """The program's base name and its arguments; empty if there is no known program."""
    variables: tuple[tuple[str, str], ...] = ()
    """The variables that are set for the program."""
    as_root: bool | None = None
    """Whether it runs as root; None: as the user who calls."""
    before: tuple[str, ...] = ()
    """The words before the program."""


def split(words: Sequence[str]) -> CommandLine:
    """Find the program in the words of a command line.

    A single word with blanks is a command line that was quoted as a whole.
    """
    if len(words) == 1 and " " in words[0].strip():
        try:
            words = shlex.split(words[0].replace("\\\n", " "), comments=True)
        except ValueError:
            return CommandLine(())
    rest = [word for word in words if word.strip()]
    if rest and rest[0] in ("$", "#", "%", "!"):
        rest = rest[1:]
    all_words = [*rest]
    variables: list[tuple[str, str]] = []
    as_root: bool | None = None
    while rest:
        index = len(all_words) - len(rest)
        name, equals, value = rest[0].partition("=")
        base = rest[0].rpartition("/")[2]
        if base == _NVIDIA_DOCKER:
            base, rest = "docker", _of_nvidia_docker(rest, dict(variables).get("NV_GPU", ""))
        if base in PROGRAMS:
            before = tuple(all_words[:index])
            return CommandLine((base, *rest[1:]), tuple(variables), as_root, before)
        if equals and name.isidentifier():
            variables.append((name, value))
            rest = rest[1:]
        elif base in _WITH_VALUE:
            options, rest = _options(base, rest[1:])
            if base in _AS_ROOT:
                users = [value for name, value in options if name in ("u", "--user")]
                as_root = not users or users[-1] in _ROOT
        else:
            break
    return CommandLine(())


def _of_nvidia_docker(words: Sequence[str], gpus: str) -> list[str]:
    """The command line of docker that the script starts: it adds options to run and create."""
    added = ["--runtime=nvidia", *(["-e", f"NVIDIA_VISIBLE_DEVICES={gpus}"] if gpus else [])]
    for index, word in enumerate(words):
        if word in ("run", "create"):
            return ["docker", *words[1 : index + 1], *added, *words[index + 1 :]]
    return ["docker", *words[1:]]


def is_command_line(words: Sequence[str]) -> bool:
    """Whether words are a command line of a known program."""
    return bool(split(words).words)


def environment_of(line: CommandLine, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the program has."""
    return {**environment, **dict(line.variables)}


def _options(program: str, words: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The options of a program that starts another one, and the words after them."""
    options: list[tuple[str, str]] = []
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] != "-":
        word = words[index]
        index += 1
        following = words[index] if index < len(words) else ""
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            takes_next = not equals and name in _LONG_WITH_VALUE
            options.append((name, following if takes_next else value))
            index += takes_next
            continue
        letter = next((each for each in word[1:] if each in _WITH_VALUE[program]), "")
        if letter:
            joined = word[word.index(letter) + 1 :]
            options.append((letter, joined or following))
            index += not joined
    return options, [*words[index:]]
