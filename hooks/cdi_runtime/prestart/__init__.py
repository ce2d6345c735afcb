# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-runtime-hook prestart < STATE`, which `docker run --gpus` runs since Docker 19.03.

The runtime has read config.json and created the container's namespaces, mounts and control groups,
but the container's process has not left the host's root yet. So the hook applies to the container
itself what a CDI engine would write to config.json:

1. The request in config.json becomes edits of the spec, and the edits become mounts, nodes, device
   rules and hooks, by the same rules as in `injection`. The sources are opened on the host.
2. systemd and the control groups allow the devices.
3. A child enters the container's namespaces and attaches nodes and mounts.
4. The child runs the hooks of the spec.

The hook cannot set the spec's variables, because the process has its environment already, nor the
additional groups.
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
from cdi_runtime.prestart.container_root import ContainerRoot, UndoLog
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

  prestart              inject the GPUs that config.json requests into the container
  poststart, poststop   do nothing

Exit status: 0 done, or no GPU requested; 1 the container must not start; 2 wrong usage.
"""
COMMANDS = ("prestart", "poststart", "poststop")

_CONFIG, _STATE = "config.json", "the state on stdin"


class CommandLine:
    """The hook's command line; options have one dash or two, as in Go."""

    __slots__ = ("command", "config", "debug", "version")

    def __init__(self, arguments: Iterable[str]) -> None:
        """Parse the arguments.

        Raises:
            UsageError: an option or the command is unknown, or the command is missing.
        """
        self.command = ""
        self.config: str | None = None
        self.debug = self.version = False
        words = iter(arguments)
        for word in words:
            name, equals, value = word.lstrip("-").partition("=")
            if not word.startswith("-"):
                self.command = word
                break
            if name == "config":
                self.config = value if equals else next(words, "")
                if not self.config:
                    raise UsageError("-config needs a file", code="CDG-T001")
            elif name in {"debug", "version"} and value in {"", "true", "false"}:
                setattr(self, name, value != "false")
            else:
                raise UsageError(f"{shown(word)}: no such option", code="CDG-T001")
        if self.command not in COMMANDS and not self.version:
            problem = f"{shown(self.command)}: no such command" if self.command else "no command"
            raise UsageError(problem, code="CDG-T001")


def main() -> None:
    """Run the program; never returns."""
    process.begin(PRESTART_HOOK)
    command = "start"
    try:
        command_line = CommandLine(sys.argv[1:])
        if command_line.version:
            os.write(1, f"{PRESTART_HOOK} version {VERSION}\n".encode())
            os._exit(0)
        command = command_line.command
        if command == "prestart":
            # The environment can name the file. It is still the engine's environment here.
            settings = configuration.load(command_line.config)
            process.drop_inherited_state()
            os.chdir("/")
            with process.Bounds():
                _prestart(settings, debug=command_line.debug)
        status = 0
    except UsageError as error:
        process.say(str(error), error.code)
        os.write(2, HELP.encode())
        status = error.status
    except EXPECTED as error:
        message, code = explain(error)
        process.say(f"{command}: {message}", code)
        status = exit_status(error) or 1
    # The runtime waits for this process, and no buffer has to be flushed.
    os._exit(status)


def _prestart(settings: Configuration, *, debug: bool) -> None:
    state = oci_state.read_stdin(process.deadline())
    bundle = text_of(state, "bundle", _STATE)
    if not bundle.startswith("/"):
        raise HookError(f"'bundle' of {_STATE} is not an absolute path", code="CDG-T002")
    config = Bundle(bundle).config
    report = _report if debug else _ignore
    edits = resolution.edits(config, settings, annotations=False, report=report)
    if edits is None:
        return
    injected = Injection(config, edits)
    process.wake_after(process.SECONDS + injected.hooks.seconds())
    pid = number_of(state, "pid", _STATE)
    if pid is None or pid <= 0:
        raise HookError(f"'pid' of {_STATE} is not the number of a process", code="CDG-T002")
    root = text_of(state, "root", _STATE) or text_of(
        object_of(config, "root", _CONFIG), "path", _CONFIG
    )
    if not root:
        raise HookError("config.json has no 'root'", code="CDG-T002")
    injected.apply_to(
        Container(pid, root if root.startswith("/") else f"{bundle}/{root}", bundle, state),
        restricted=not settings.no_cgroups and trust.in_first_user_namespace(),
    )


def _report(finding: Finding) -> None:
    prefix = "" if finding.severity == "info" else f"{finding.severity}: "
    process.say(f"{prefix}{finding.message}", finding.code)


def _ignore(_finding: Finding) -> None:
    pass


class Container:
    """A container that the runtime is creating."""

    __slots__ = ("_bundle", "_state", "namespaces", "root")

    def __init__(self, pid: int, root: str, bundle: str, state: Document) -> None:
        self.namespaces = namespaces.Namespaces(pid)
        self.root = root
        """A path that means the same for the host and, until its process leaves the host's root,
        for the container."""
        self._bundle = bundle
        self._state = state

    def input_of_hooks(self, root: int | None = None) -> tuple[bytes, str]:
        """Return the state for the spec's hooks, and the directory that they start in.

        If the container's user namespace may not enter a directory above the root, the hooks start
        in the root, as with runc, and the state does not name it.

        Args:
            root: a descriptor of the root; None on the host.
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
    """The mounts, nodes, device rules and hooks for a container, with sources open on the host."""

    def __init__(self, config: Document, edits: Sequence[Document]) -> None:
        """Apply the edits to an empty configuration, and read the result.

        Raises:
            HookError: an edit comes too late for a prestart hook, or its source on the host is
                missing.
        """
        user = object_of(object_of(config, "process", _CONFIG), "user", _CONFIG)
        added: Document = {"process": {"user": dict(user), "cwd": "/"}}
        injection.apply(added, edits)
        linux = object_of(added, "linux", _CONFIG)
        for key in ("intelRdt", "netDevices"):
            if key in linux:
                raise HookError(
                    f"the spec has {key}, which a prestart hook cannot set: use a CDI engine or "
                    "the runtime shim",
                    code="CDG-T003",
                )
        self.hooks = own_hooks.Hooks(added)
        self.mounts = attachment.mounts_of(added)
        self.nodes = attachment.nodes_of(added, _host_paths(edits))
        self.rules = _device_rules(linux, self.nodes)

    def apply_to(self, container: Container, *, restricted: bool) -> None:
        """Inject everything into a container, or leave its mounts and nodes as they were.

        Args:
            container: the container.
            restricted: whether control groups restrict the container's devices.

        Raises:
            HookError, OSError: something cannot be injected.
        """
        if restricted and self.rules:
            _allow_devices(container.namespaces.process, self.rules)
        own_hooks.run(self.hooks.on_the_host, *container.input_of_hooks())
        seconds = sum(hook.seconds for hook in self.hooks.in_the_container)
        namespaces.run_in_child(lambda: self._attach(container), process.deadline() + seconds)

    def _attach(self, container: Container) -> None:
        """Attach nodes and mounts and run the container's hooks; runs in the child."""
        needs_mounts = (
            container.namespaces.has_own(namespaces.USER) or not trust.in_first_user_namespace()
        )
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        container.namespaces.enter(kind for kind in namespaces.KINDS if kind != namespaces.USER)
        # Opened before the user namespace is entered, which may not enter the directories above.
        descriptor = os.open(container.root, flags)
        container.namespaces.enter({namespaces.USER})
        undo_log = UndoLog()
        root = ContainerRoot(descriptor, undo_log, mounts.MountTable())
        try:
            for node in self.nodes:
                node.create(root, undo_log, needs_mount=needs_mounts)
            for mount in self.mounts:
                mount.source.attach(root, mount.destination, undo_log)
            container.namespaces.check_root()
            own_hooks.run(self.hooks.in_the_container, *container.input_of_hooks(descriptor))
        except BaseException:
            undo_log.undo()
            raise


def _host_paths(edits: Sequence[Document]) -> dict[str, str]:
    """Return the host's path of each node, by its path in the container."""
    nodes = [
        node
        for container_edits in edits
        for node in objects_of(container_edits, "deviceNodes", "CDI edits")
    ]
    return {
        path: text_of(node, "hostPath", "CDI edits") or path
        for node in nodes
        for path in [text_of(node, "path", "CDI edits")]
    }


def _device_rules(linux: Document, nodes: Sequence[attachment.Node]) -> list[Rule]:
    host_paths = {node.number: node.source.path for node in nodes if node.source}
    rules = []
    for device in objects_of(object_of(linux, "resources", _CONFIG), "devices", _CONFIG):
        access = text_of(device, "access", _CONFIG)
        major, minor = (number_of(device, key, _CONFIG) or 0 for key in ("major", "minor"))
        if access:
            host_path = host_paths.get(os.makedev(major, minor), "")
            rules.append(Rule(text_of(device, "type", _CONFIG), major, minor, access, host_path))
    return rules


def _allow_devices(container: int, rules: Sequence[Rule]) -> None:
    """Allow the devices in a process's control groups, and in systemd, which rewrites the groups.

    Args:
        container: an `O_PATH` descriptor of /proc/PID.
        rules: the devices.
    """
    groups = control_groups.ControlGroups(container)
    filters_before = groups.filters()
    if groups.scope is None or not systemd.allow(groups.scope, rules):
        groups.allow(rules)
        return
    # systemd may have moved the process to another group. The filters that systemd has attached
    # since allow the devices already; systemd could not replace a filter of ours.
    groups = control_groups.ControlGroups(container)
    groups.allow(rules, unchanged=groups.filters() - filters_before)


if __name__ == "__main__":
    main()
