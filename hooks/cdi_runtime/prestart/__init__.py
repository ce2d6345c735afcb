# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-runtime-hook prestart < STATE`: what `docker run --gpus` calls since Docker 19.03.

The runtime has read its configuration and made the container's namespaces, mounts and control
groups, but the container's process has not left the host's root yet. So what a CDI engine would
write into the configuration is done to the container itself:

1. the request in config.json becomes edits of the spec, and the edits become mounts, nodes, device
   rules and hooks by the very rules of `injection`; sources are opened on the host;
2. systemd and the control groups are told of the devices;
3. a child goes where the container is, and attaches nodes and mounts;
4. it runs the spec's own hooks.

Not done: the spec's variables (the process has its environment), and additional groups.
"""

from __future__ import annotations

import os
import sys

from cdi_base import PRESTART_HOOK, VERSION, oci_state, process, trust
from cdi_base.cdi import injection
from cdi_base.errors import EXPECTED, HookError, UsageError, exit_status, explain, shown
from cdi_base.json_object import number_of, object_of, objects_of, text_of
from cdi_base.rootfs import mounts
from cdi_runtime.bundle import Bundle
from cdi_runtime.config_toml import configuration
from cdi_runtime.prestart import attachment, control_groups, namespaces, own_hooks, systemd
from cdi_runtime.prestart.container_root import ContainerRoot, Journal
from cdi_runtime.prestart.device_filter import Rule
from cdi_runtime.specs import resolution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdi_base.findings import Finding
    from cdi_runtime.config_toml.settings import Configuration

    Document = dict[str, object]

HELP = """\
Usage: cdi-gen-runtime-hook [-config FILE] [-debug] COMMAND < OCI-STATE
       cdi-gen-runtime-hook -version

  prestart              give a container that is being made the GPUs that its configuration asks for
  poststart, poststop   nothing

Exit status: 0 done, or no GPU was asked for; 1 the container must not start; 2 wrong usage.
"""
COMMANDS = ("prestart", "poststart", "poststop")

_CONFIG, _STATE = "config.json", "the state on stdin"


class Words:
    """A command line; options have one dash or two, as Go's."""

    __slots__ = ("command", "config", "debug", "version")

    def __init__(self, words: Iterable[str]) -> None:
        """Read it.

        Raises:
            UsageError: an option that there is not, or no command.
        """
        self.command = ""
        self.config: str | None = None
        self.debug = self.version = False
        rest = iter(words)
        for word in rest:
            name, equals, value = word.lstrip("-").partition("=")
            if not word.startswith("-"):
                self.command = word
                break
            if name == "config":
                self.config = value if equals else next(rest, "")
                if not self.config:
                    raise UsageError("-config needs a file", code="CDG-T001")
            elif name in {"debug", "version"} and value in {"", "true", "false"}:
                setattr(self, name, value != "false")
            else:
                raise UsageError(f"{shown(word)}: there is no such option", code="CDG-T001")
        if self.command not in COMMANDS and not self.version:
            raise UsageError(f"{shown(self.command)}: no command", code="CDG-T001")


def main() -> None:
    """Run as a program; never returns."""
    process.begin(PRESTART_HOOK)
    command = "start"
    try:
        words = Words(sys.argv[1:])
        if words.version:
            os.write(1, f"{PRESTART_HOOK} version {VERSION}\n".encode())
            os._exit(0)
        command = words.command
        if command == "prestart":
            # It asks the environment where its file is; that is the engine's, not the image's.
            settings = configuration.load(words.config)
            process.drop_inherited_state()
            os.chdir("/")
            _prestart(settings, debug=words.debug)
        status = 0
    except UsageError as error:
        process.say(str(error), error.code)
        os.write(2, HELP.encode())
        status = error.status
    except EXPECTED as error:
        message, code = explain(error)
        process.say(f"{command}: {message}", code)
        status = exit_status(error) or 1
    # Nothing is left to be written, and the runtime is waiting.
    os._exit(status)


def _prestart(settings: Configuration, *, debug: bool) -> None:
    said = oci_state.read_stdin(process.deadline())
    bundle = text_of(said, "bundle", _STATE)
    if not bundle.startswith("/"):
        raise HookError(f"'bundle' of {_STATE} is not an absolute path", code="CDG-T002")
    config = Bundle(bundle).config
    report = _report if debug else _ignore
    edits = resolution.edits(config, settings, annotations=False, report=report)
    if edits is None:
        return
    what = Injection(config, edits)
    process.wake_after(process.SECONDS + what.hooks.seconds())
    number = number_of(said, "pid", _STATE)
    if number is None or number <= 0:
        raise HookError(f"'pid' of {_STATE} is no process", code="CDG-T002")
    root = text_of(said, "root", _STATE) or text_of(
        object_of(config, "root", _CONFIG), "path", _CONFIG
    )
    if not root:
        raise HookError("config.json has no 'root'", code="CDG-T002")
    what.into(
        Container(number, root if root.startswith("/") else f"{bundle}/{root}", bundle, said),
        restricted=not settings.no_cgroups and trust.in_first_user_namespace(),
    )


def _report(finding: Finding) -> None:
    prefix = "" if finding.severity == "info" else f"{finding.severity}: "
    process.say(f"{prefix}{finding.message}", finding.code)


def _ignore(_finding: Finding) -> None:
    pass


class Container:
    """One that is being made."""

    __slots__ = ("_bundle", "_state", "root", "spaces")

    def __init__(self, number: int, root: str, bundle: str, said: Document) -> None:
        self.spaces = namespaces.Namespaces(number)
        self.root = root
        """A path of the host, and of the container until its process leaves the host's root."""
        self._bundle = bundle
        self._state = said

    def as_seen_from_here(self, root: int | None = None) -> tuple[bytes, str]:
        """The state for the spec's hooks, and the directory that they start in.

        Where the container's user namespace has no way to the root (`root` is a descriptor of it),
        they start in it, as runc has it, and the state does not name it.
        """
        try:
            os.stat(self.root)
        except PermissionError:
            if root is None:
                raise
            unnamed = {key: value for key, value in self._state.items() if key != "root"}
            return own_hooks.encoded(unnamed), f"/proc/self/fd/{root}"
        return own_hooks.encoded({**self._state, "root": self.root}), self._bundle


class Injection:
    """What a container is to be given: read, and opened on the host."""

    def __init__(self, config: Document, edits: Sequence[Document]) -> None:
        """Have the edits applied to a configuration that holds nothing else.

        Raises:
            HookError: there is an edit that comes too late for this container, or one that this
                host cannot serve.
        """
        user = object_of(object_of(config, "process", _CONFIG), "user", _CONFIG)
        added: Document = {"process": {"user": dict(user), "cwd": "/"}}
        injection.apply(added, edits)
        linux = object_of(added, "linux", _CONFIG)
        for key in ("intelRdt", "netDevices"):
            if key in linux:
                raise HookError(
                    f"the spec has {key}, which a prestart hook cannot give: use a CDI engine or "
                    "the runtime shim",
                    code="CDG-T003",
                )
        self.hooks = own_hooks.Hooks(added)
        self.mounts = attachment.mounts_of(added)
        self.nodes = attachment.nodes_of(added, _of_the_host(edits))
        self.rules = _rules(linux, self.nodes)

    def into(self, container: Container, *, restricted: bool) -> None:
        """Give it all to a container, or leave the container as it was.

        Raises:
            HookError, OSError: it cannot be given.
        """
        if restricted and self.rules:
            _allow(container.spaces.process, self.rules)
        own_hooks.run(self.hooks.on_the_host, *container.as_seen_from_here())
        seconds = sum(hook.seconds for hook in self.hooks.in_the_container)
        namespaces.in_a_child(lambda: self._attach(container), process.deadline() + seconds)

    def _attach(self, container: Container) -> None:
        """In the child."""
        bound = container.spaces.has_own(namespaces.USER) or not trust.in_first_user_namespace()
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        container.spaces.enter(kind for kind in namespaces.KINDS if kind != namespaces.USER)
        # The user namespace's root may have no way to it.
        place = os.open(container.root, flags)
        container.spaces.enter({namespaces.USER})
        journal = Journal()
        root = ContainerRoot(place, journal, mounts.MountTable())
        try:
            for node in self.nodes:
                node.place(root, journal, bound=bound)
            for mount in self.mounts:
                mount.source.attach(root, mount.destination, journal)
            container.spaces.check_root()
            own_hooks.run(self.hooks.in_the_container, *container.as_seen_from_here(place))
        except BaseException:
            journal.undo()
            raise


def _of_the_host(edits: Sequence[Document]) -> dict[str, str]:
    """Where the host has each node, by its path in the container."""
    nodes = [node for each in edits for node in objects_of(each, "deviceNodes", "CDI edits")]
    return {
        path: text_of(node, "hostPath", "CDI edits") or path
        for node in nodes
        for path in [text_of(node, "path", "CDI edits")]
    }


def _rules(linux: Document, nodes: Sequence[attachment.Node]) -> list[Rule]:
    of_the_host = {node.number: node.source.path for node in nodes if node.source}
    found = []
    for each in objects_of(object_of(linux, "resources", _CONFIG), "devices", _CONFIG):
        access = text_of(each, "access", _CONFIG)
        major, minor = (number_of(each, key, _CONFIG) or 0 for key in ("major", "minor"))
        if access:
            node = of_the_host.get(os.makedev(major, minor), "")
            found.append(Rule(text_of(each, "type", _CONFIG), major, minor, access, node))
    return found


def _allow(process_: int, rules: Sequence[Rule]) -> None:
    """Have the groups of a process allow the devices, and systemd, which would write them anew."""
    groups = control_groups.ControlGroups(process_)
    before = groups.filters()
    if groups.scope is None or not systemd.allow(groups.scope, rules):
        groups.allow(rules)
        return
    # systemd may have moved it. What it attached since knows the devices, and must stay its own.
    groups = control_groups.ControlGroups(process_)
    groups.allow(rules, known_to_allow=groups.filters() - before)


if __name__ == "__main__":
    main()
