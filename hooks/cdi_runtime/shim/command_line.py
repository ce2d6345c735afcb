# SPDX-License-Identifier: Apache-2.0
"""A low-level runtime's command line, read only as far as the shim has to know it.

runc's options are those of Go (`-bundle X`, `--bundle=X`, anywhere before `--`), crun's those of
GNU (`-bX`). An option that neither has may take a value: what follows it is the command only if it
is the name of one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EDITED = frozenset(("create", "run"))
"""Commands that make a container of a bundle. `restore` does too, but of what was a container
already: its mounts and nodes are those that were saved with it."""

COMMANDS = EDITED | {
    "start", "state", "kill", "delete", "exec", "list", "ps", "pause", "resume", "update", "events",
    "checkpoint", "restore", "features", "spec", "init", "help", "mounts", "do", "wait", "debug",
}  # fmt: skip

GLOBAL_WITH_VALUE = frozenset(
    ("log", "log-format", "log-level", "root", "criu", "rootless", "cgroup-manager", "platform")
)
OF_COMMAND_WITH_VALUE = frozenset((
    "bundle", "b", "config", "f", "console-socket", "pidfd-socket", "pid-file", "preserve-fds",
))  # fmt: skip
SWITCHES = frozenset((
    "debug", "systemd-cgroup", "help", "h", "?", "usage", "version", "v", "V", "no-pivot",
    "no-new-keyring", "detach", "d", "keep", "no-subreaper",
))  # fmt: skip


class Invocation:
    """What is asked of the runtime; texts are empty where nothing is said."""

    __slots__ = ("bundle", "command", "config", "log", "log_format", "version", "wants_help")

    def __init__(self) -> None:
        self.command = ""
        self.bundle = ""
        self.config = ""
        """Of crun alone: another file than the bundle's config.json."""
        self.log = ""
        self.log_format = ""
        self.version = False
        self.wants_help = False

    def edits_a_bundle(self) -> bool:
        """Whether a container is about to be made."""
        return self.command in EDITED and not self.wants_help


def read(words: Sequence[str]) -> Invocation:
    """Find the command, and what matters of its options and of the global ones.

    Args:
        words: the command line without the program's name.
    """
    found = Invocation()
    for name, value in _options(found, iter(words)):
        if name in {"bundle", "b"}:
            found.bundle = value
        elif name in {"config", "f"} and found.command:
            found.config = value
        elif name == "log":
            found.log = value
        elif name == "log-format":
            found.log_format = value
        elif name in {"help", "h", "?", "usage"}:
            found.wants_help = True
        elif name in {"version", "v", "V"} and not found.command:
            found.version = True
    return found


def _options(found: Invocation, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Name without dashes and value of each option; notes the command as it comes by."""
    unknown = False
    for word in rest:
        if word == "--":
            return
        if not word.startswith("-") or word == "-":
            # After an unknown option this may be its value.
            if not found.command and (word in COMMANDS or not unknown):
                found.command = word
            unknown = False
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals and not word.startswith("--") and name != "bundle" and name[:1] in {"b", "f"}:
            # Attached, as GNU has it.
            name, value, equals = name[0], name[1:], name[1:]
        takes_value = name in (OF_COMMAND_WITH_VALUE if found.command else GLOBAL_WITH_VALUE)
        if takes_value and not equals:
            value = next(rest, "")
        unknown = not (equals or takes_value or name in SWITCHES)
        yield name, value
