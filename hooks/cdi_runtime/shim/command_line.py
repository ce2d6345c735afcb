# SPDX-License-Identifier: Apache-2.0
"""Reads the command line of a low-level runtime, as far as the shim needs it.

runc parses options as Go does (`-bundle X`, `--bundle=X`, anywhere before `--`), crun as GNU does
(`-bX`). An option that neither runtime has may take a value: the word after such an option is the
command only if a command has this name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CREATING_COMMANDS = frozenset(("create", "run"))
"""Commands that create a container from a bundle. `restore` is not among them: the mounts and
device nodes of a restored container are those that the checkpoint saved."""

COMMANDS = CREATING_COMMANDS | {
    "start", "state", "kill", "delete", "exec", "list", "ps", "pause", "resume", "update", "events",
    "checkpoint", "restore", "features", "spec", "init", "help", "mounts", "do", "wait", "debug",
}  # fmt: skip

GLOBAL_OPTIONS_WITH_VALUE = frozenset(
    ("log", "log-format", "log-level", "root", "criu", "rootless", "cgroup-manager", "platform")
)
COMMAND_OPTIONS_WITH_VALUE = frozenset((
    "bundle", "b", "config", "f", "console-socket", "pidfd-socket", "pid-file", "preserve-fds",
))  # fmt: skip
SWITCHES = frozenset((
    "debug", "systemd-cgroup", "help", "h", "?", "usage", "version", "v", "V", "no-pivot",
    "no-new-keyring", "detach", "d", "keep", "no-subreaper",
))  # fmt: skip


class Invocation:
    """A command line of the runtime; an option that is not given is an empty text."""

    __slots__ = ("bundle", "command", "config", "log", "log_format", "version", "wants_help")

    def __init__(self) -> None:
        self.command = ""
        self.bundle = ""
        self.config = ""
        """crun's `--config`: a file to use instead of the bundle's config.json."""
        self.log = ""
        self.log_format = ""
        self.version = False
        self.wants_help = False

    def creates_container(self) -> bool:
        """Whether the runtime is about to create a container from a bundle."""
        return self.command in CREATING_COMMANDS and not self.wants_help


def parse(arguments: Sequence[str]) -> Invocation:
    """Return the command, and those of its options and of the global options that the shim needs.

    Args:
        arguments: the command line without the program's name.
    """
    invocation = Invocation()
    for name, value in _options(invocation, iter(arguments)):
        if name in {"bundle", "b"}:
            invocation.bundle = value
        elif name in {"config", "f"} and invocation.command:
            invocation.config = value
        elif name == "log":
            invocation.log = value
        elif name == "log-format":
            invocation.log_format = value
        elif name in {"help", "h", "?", "usage"}:
            invocation.wants_help = True
        elif name in {"version", "v", "V"} and not invocation.command:
            invocation.version = True
    return invocation


def _options(invocation: Invocation, words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield the name, without dashes, and the value of each option; store the command."""
    unknown = False
    for word in words:
        if word == "--":
            return
        if not word.startswith("-") or word == "-":
            # The word after an unknown option may be the value of the option.
            if not invocation.command and (word in COMMANDS or not unknown):
                invocation.command = word
            unknown = False
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals and not word.startswith("--") and name != "bundle" and name[:1] in {"b", "f"}:
            # The value is attached to the letter, as GNU allows.
            name, value, equals = name[0], name[1:], name[1:]
        takes_value = name in (
            COMMAND_OPTIONS_WITH_VALUE if invocation.command else GLOBAL_OPTIONS_WITH_VALUE
        )
        if takes_value and not equals:
            value = next(words, "")
        unknown = not (equals or takes_value or name in SWITCHES)
        yield name, value
