# SPDX-License-Identifier: Apache-2.0
"""Checks what a container with a device needs from the host: nodes, mounts and hooks.

Each check looks at the host with the permissions of the engine's user.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

from cdi_base import files
from cdi_base.cdi.injection import look_at
from cdi_base.findings import Finding
from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, Hook, Mount
from cdi_gen.store import SpecFile
from cdi_gen.why import hook_options
from cdi_gen.why.advice import OUR_KIND
from cdi_gen.why.kernel import Kernel, for_group
from cdi_gen.why.lookup import device_in
from cdi_gen.why.readers import Reader
from cdi_gen.why.spec_files import Host
from cdi_gen.why.user import acting_as

Effect = Literal["fails", "broken", "note", "unknown"]
"""``fails``: a container with the device does not start. ``broken``: it starts, and the device does
not work. ``unknown``: this process may not see it."""

_MOST_OF_A_KIND = 3
"""Faults of one kind that are listed one by one; a driver of another version lacks every file."""

_AT_START = {"prestart", "createRuntime", "createContainer"}
"""Hooks that run on the host and whose failure prevents the start."""

_LONGEST_FIRST_LINE = 256

_NO_PERMISSION = {errno.EACCES, errno.EPERM}


class Obstacle(NamedTuple):
    """A finding about the start of a container, and its effect."""

    finding: Finding
    effect: Effect


def obstacles(file: SpecFile, name: str, reader: Reader, host: Host) -> list[Obstacle]:
    """Return what is wrong with the host for a container with a device, the worst first.

    Args:
        file: the file that defines the device; engines read it.
        name: the qualified name of the device.
        reader: the engine.
        host: the host's files.
    """
    device = device_in(file, name)
    if file.spec is None or device is None:
        return []
    edits = file.spec.container_edits | device.container_edits
    check = _Check(file, reader, host)
    found = [*_rejected_edits(file, device)]
    with acting_as(reader.user):
        found += check.nodes(edits)
        found += check.mounts(edits)
        found += check.hooks(edits)
    order = {"fails": 0, "broken": 1, "unknown": 2, "note": 3}
    return sorted(found, key=lambda obstacle: order[obstacle.effect])


def _rejected_edits(file: SpecFile, device: Device) -> Iterator[Obstacle]:
    """The problems of the spec itself for which runtimes reject a container with the device."""
    if file.spec is None:
        return
    index = file.spec.devices.index(device)
    for problem in file.problems:
        is_here = problem.path.startswith((".containerEdits", f".devices[{index}].containerEdits"))
        if is_here and problem.severity == "error" and not problem.partly_refused_by:
            message = f"{file.path}: {problem}: {problem.consequence}"
            yield Obstacle(
                Finding(problem.code, "error", message, subject=file.path, fix=_rewritten(file)),
                "fails",
            )


def _rewritten(file: SpecFile) -> str:
    path = shlex.quote(file.path)
    if file.spec and file.spec.kind == OUR_KIND:
        return f"sudo cdi-gen generate -o {path}"
    return f"see all problems with: cdi-gen validate {path}"


class _Check:
    """The checks for one engine; they run with the permissions of the engine's user."""

    def __init__(self, file: SpecFile, reader: Reader, host: Host) -> None:
        self._file = file
        self._reader = reader
        self._host = host
        self._kernel = Kernel(host.root)

    def nodes(self, edits: ContainerEdits) -> list[Obstacle]:
        """The device nodes that cannot be created, or lead to another device."""
        found = [obstacle for node in edits.device_nodes if (obstacle := self._node(node))]
        return _shortened([*{obstacle.finding.message: obstacle for obstacle in found}.values()])

    def _node(self, node: DeviceNode) -> Obstacle | None:
        # The OCI configuration has no host path: a rootless runtime mounts the node at the path.
        path = node.path if self._reader.rootless else node.host_path or node.path
        is_complete = bool(node.type and (node.major or node.type == "p"))
        try:
            if not is_complete and node.host_path:
                look_at(self._host.path(node.host_path))
            status = look_at(self._host.path(path))
        except (OSError, ValueError) as error:
            return self._absent_node(path, error, is_complete) or self._unserved_node(path, node)
        if not status.type and is_complete:
            # A rootless runtime mounts what a link leads to.
            return self._closed_node(path) if self._reader.rootless else None
        if not status.type:
            message = f"{path} of the host is not a device node"
            return Obstacle(
                Finding(
                    "CDG-R701", "error", message, subject=path, fix=f"ls -l {shlex.quote(path)}"
                ),
                "fails",
            )
        if not is_complete and node.type and node.type != status.type:
            message = f"{path} is of type {status.type} on the host, and {node.type} in the spec"
            return Obstacle(
                Finding("CDG-R701", "error", message, subject=path, fix=_rewritten(self._file)),
                "fails",
            )
        if self._reader.rootless:
            return self._closed_node(path)
        spec_numbers = (node.type, node.major, node.minor or 0)
        if is_complete and node.type != "p" and spec_numbers != _numbers(status):
            on_host = f"{status.type} {status.major}:{status.minor}"
            in_spec = f"{node.type} {node.major}:{node.minor or 0} in {self._file.path}"
            message = (
                f"{path} is {on_host} on the host, and {in_spec}: the container gets a node "
                "without this device"
            )
            code, fix = "CDG-V106", _rewritten(self._file)
            if node.major and self._kernel.agrees(path, node.major, node.minor or 0):
                code, fix = "CDG-H301", "sudo cdi-gen system create-device-nodes"
                message = (
                    f"{path} is {on_host} on the host, which are the numbers of another boot: the "
                    f"kernel uses {in_spec}"
                )
            return Obstacle(Finding(code, "error", message, subject=path, fix=fix), "broken")
        if self._kernel.lacks_gpu(path) or self._kernel.lacks_mig_instance(path):
            return self._unserved_node(path, node)
        return None

    def _absent_node(self, path: str, error: Exception, is_complete: bool) -> Obstacle | None:
        code = getattr(error, "errno", 0) or 0
        if code in _NO_PERMISSION and not self._reader.user.is_visible:
            return self._unseen(path)
        if is_complete and not self._reader.rootless:
            return None  # the engine creates the node
        reason = "does not exist" if code == errno.ENOENT else os.strerror(code or errno.EINVAL)
        because = (
            "a rootless engine mounts the node of the host"
            if self._reader.rootless
            else f"{self._file.path} has no type and number for it"
        )
        message = f"device node {path} {reason}, and {because}"
        fix = "sudo cdi-gen system create-device-nodes --control-devices --load-kernel-modules"
        if not path.startswith("/dev/nvidia"):
            fix = _rewritten(self._file)
        return Obstacle(Finding("CDG-V105", "error", message, subject=path, fix=fix), "fails")

    def _unserved_node(self, path: str, node: DeviceNode) -> Obstacle | None:
        """A node that a container gets, and that no driver of the host serves.

        A node that is only not created yet, as after a boot, is none.
        """
        if node.type == "c" and self._kernel.lacks_driver(path, node.major or 0):
            code = "CDG-V105"
            message = f"no driver is loaded for {path} ({node.major}:{node.minor or 0})"
        elif self._kernel.lacks_drm_device(path):
            code, message = "CDG-V105", f"the host has no DRM device {path}"
        elif self._kernel.lacks_gpu(path):
            code, message = "CDG-V107", f"NVIDIA's driver has no GPU {path}"
        elif self._kernel.lacks_mig_instance(path):
            code, message = "CDG-V107", f"NVIDIA's driver has no MIG device with {path}"
        else:
            return None
        message += f", which {self._file.path} names: the container gets a node without a device"
        fix = f"sudo cdi-gen doctor driver  # why; if for good: {_rewritten(self._file)}"
        return Obstacle(Finding(code, "error", message, subject=path, fix=fix), "broken")

    def _closed_node(self, path: str) -> Obstacle | None:
        """A node that a rootless container gets, and whose process may not open it."""
        user = self._reader.user
        if not user.is_visible:
            return self._unseen(path)
        try:
            own_path = self._host.resolved(path)
            status = os.stat(own_path)
        except (OSError, ValueError) as error:
            return self._absent_node(path, error, is_complete=True)
        others = status.st_mode & stat.S_IROTH and status.st_mode & stat.S_IWOTH
        if others or status.st_uid == user.uid or not path.startswith("/dev/nvidia"):
            return None
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}, group {status.st_gid}"
        if os.access(own_path, os.R_OK | os.W_OK, effective_ids=True):
            message = (
                f"{user.name} may use {path} only as a member of its group ({mode}), and a "
                "container has no groups of its user"
            )
            fix = f"{self._reader.engine} run --group-add keep-groups … (with crun)"
        else:
            message = f"{user.name} may not use {path} ({mode})"
            fix = f"sudo chmod 0666 {shlex.quote(path)}"
            if self._kernel.restricts(path):
                run = f"{self._reader.engine} run --group-add keep-groups … (with crun)"
                fix = for_group(status.st_gid, user.name, run)
        return Obstacle(Finding("CDG-Y005", "error", message, subject=path, fix=fix), "broken")

    def mounts(self, edits: ContainerEdits) -> list[Obstacle]:
        """The mounts whose file or directory the host does not have."""
        return _shortened([obstacle for mount in edits.mounts if (obstacle := self._mount(mount))])

    def _mount(self, mount: Mount) -> Obstacle | None:
        is_bind = {"bind", "rbind"} & {*mount.options}
        if mount.type not in {"", "bind", "none"} or not is_bind:
            return None
        path = mount.host_path
        try:
            os.stat(self._host.resolved(path))
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", 0) or errno.EINVAL
            if code in _NO_PERMISSION and not self._reader.user.is_visible:
                return self._unseen(path)
            reason = "does not exist" if code == errno.ENOENT else os.strerror(code)
            message = f"{path}, which {self._file.path} mounts, {reason}"
            if code in _NO_PERMISSION:
                user = self._reader.user.name
                message = f"{user} has no permission for {path}, which {self._file.path} mounts"
            return Obstacle(
                Finding("CDG-V102", "error", message, subject=path, fix=_rewritten(self._file)),
                "fails",
            )
        return None

    def hooks(self, edits: ContainerEdits) -> list[Obstacle]:
        """The hooks whose program cannot be started."""
        by_path = {hook.path: hook for hook in edits.hooks if hook.hook_name in _AT_START}
        return [obstacle for hook in by_path.values() if (obstacle := self._hook(hook))]

    def _hook(self, hook: Hook) -> Obstacle | None:
        path = hook.path
        if not path.startswith("/"):
            return None  # a problem of the spec
        install = "sudo cdi-gen hook install"
        fix = f"{install} && {_rewritten(self._file)}"
        try:
            status = os.stat(self._host.resolved(path))
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", 0) or errno.EINVAL
            if code in _NO_PERMISSION and not self._reader.user.is_visible:
                return self._unseen(path)
            reason = "does not exist" if code == errno.ENOENT else os.strerror(code)
            message = f"{path}, the {hook.hook_name} hook of {self._file.path}, {reason}"
            return Obstacle(Finding("CDG-V103", "error", message, subject=path, fix=fix), "fails")
        if not stat.S_ISREG(status.st_mode):
            message = f"{path}, the {hook.hook_name} hook of {self._file.path}, is not a file"
            return Obstacle(Finding("CDG-Y006", "error", message, subject=path, fix=fix), "fails")
        own_path = self._host.resolved(path)
        if not self._may_execute(own_path, status):
            message = (
                f"{path}, the {hook.hook_name} hook of {self._file.path}, is not executable for "
                f"{self._reader.user.name} (mode {stat.S_IMODE(status.st_mode):04o})"
            )
            return Obstacle(
                Finding(
                    "CDG-Y006",
                    "error",
                    message,
                    subject=path,
                    fix=f"sudo chmod 0755 {shlex.quote(path)}",
                ),
                "fails",
            )
        interpreter = _interpreter(own_path)
        if interpreter and not self._exists(interpreter):
            message = (
                f"{path}, the {hook.hook_name} hook of {self._file.path}, needs {interpreter}, "
                "which does not exist"
            )
            return Obstacle(Finding("CDG-Y006", "error", message, subject=path, fix=fix), "fails")
        unknown = hook_options.unknown(own_path, hook)
        if unknown:
            message = f"{path} is older than {self._file.path}: it does not know {unknown[0]}"
            return Obstacle(Finding("CDG-G007", "error", message, subject=path, fix=fix), "fails")
        return None

    def _may_execute(self, path: str, status: os.stat_result) -> bool:
        if self._reader.user.is_visible:
            return os.access(path, os.X_OK, effective_ids=True)
        return bool(status.st_mode & 0o111)

    def _exists(self, path: str) -> bool:
        with suppress(OSError, ValueError):
            os.stat(self._host.resolved(path))
            return True
        return False

    def _unseen(self, path: str) -> Obstacle:
        message = f"{path} cannot be checked without the rights of {self._reader.user.name}"
        finding = Finding("CDG-Y003", "info", message, subject=path, fix="run the command as root")
        return Obstacle(finding, "unknown")


def _numbers(status: object) -> tuple[str, int, int]:
    return (
        getattr(status, "type", ""),
        getattr(status, "major", 0),
        getattr(status, "minor", 0),
    )


def _interpreter(path: str) -> str | None:
    """The interpreter of a script; None for another program, or a script that cannot be read."""
    try:
        line = files.read_beginning(path, _LONGEST_FIRST_LINE).split(b"\n")[0]
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    words = line[2:].split()
    return os.fsdecode(words[0]) if words and words[0].startswith(b"/") else None


def _shortened(found: list[Obstacle]) -> list[Obstacle]:
    """The same obstacles; of many with one code and effect, the first ones and the number."""
    result: list[Obstacle] = []
    counts: dict[tuple[str, Effect], int] = {}
    for obstacle in found:
        key = (obstacle.finding.code, obstacle.effect)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= _MOST_OF_A_KIND:
            result.append(obstacle)
    for (code, effect), count in counts.items():
        if count > _MOST_OF_A_KIND:
            last = next(
                index
                for index in reversed(range(len(result)))
                if (result[index].finding.code, result[index].effect) == (code, effect)
            )
            finding = result[last].finding
            more = Finding(
                finding.code,
                finding.severity,
                f"{finding.message}; and {count - _MOST_OF_A_KIND} more such files",
                subject=finding.subject,
                fix=finding.fix,
            )
            result[last] = Obstacle(more, effect)
    return result
