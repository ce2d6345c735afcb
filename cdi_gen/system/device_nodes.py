# SPDX-License-Identifier: Apache-2.0
"""Creates the driver's device nodes that do not exist yet, and replaces those of another boot.

A node that has the right numbers is left as it is: udev or the administrator may have given it
another mode. A node is complete when its name appears.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from cdi_base import trust
from cdi_base.files import discard, temporary_name
from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError, NoDriverError, UnsafeError
from cdi_gen.host import boot
from cdi_gen.host.devices.proc import FRONTEND
from cdi_gen.host.roots import Root
from cdi_gen.paths import base_name, join, parent
from cdi_gen.system.driver_nodes import DriverNode, KernelFacts

State = Literal["present", "absent", "stale", "occupied"]
DIRECTORY_MODE = 0o755


class NodeChange(NamedTuple):
    """A node, and the state in which it was."""

    node: DriverNode
    path: str
    """On the host."""
    state: State
    finding: Finding | None = None


class Result(NamedTuple):
    """What was done, or would be done."""

    changes: tuple[NodeChange, ...]
    findings: tuple[Finding, ...]
    """What is missing, and why."""

    @property
    def is_complete(self) -> bool:
        """Whether all nodes exist."""
        severities = [finding.severity for finding in self.findings]
        severities += [change.finding.severity for change in self.changes if change.finding]
        return not {"warning", "error"} & {*severities}


def create(kernel: Root, dev: Root, *, control_only: bool = False, dry_run: bool = False) -> Result:
    """Create the nodes of the driver in a dev root.

    Args:
        kernel: the root with procfs and sysfs.
        dev: the root with ``/dev``.
        control_only: leave out the nodes of GPUs and MIG devices.
        dry_run: change nothing.

    Raises:
        NoDriverError: the kernel module is not loaded.
        UnsafeError: users other than root can change the directory.
        CdiGenError: the kernel refuses.
    """
    facts = KernelFacts(kernel)
    if not facts.has_driver:
        raise NoDriverError(
            "no NVIDIA driver is loaded on this host: /proc/devices has no driver nvidia",
            hint="load it with: modprobe nvidia",
            code="CDG-H001",
        )
    wanted = facts.control()
    findings = [_unloaded(path, module) for path, module in wanted.unloaded]
    if not control_only and boot.is_container(kernel):
        message = "this is a container: no node of a GPU or of a MIG device is created"
        findings.append(Finding("CDG-D102", "info", message))
    elif not control_only:
        others = (*facts.gpus(), *facts.capabilities())
        wanted = wanted._replace(nodes=wanted.nodes + others)
    if not facts.manages_main_nodes:
        message = "the driver is set to leave its device nodes alone (NVreg_ModifyDeviceFiles=0)"
        findings.append(Finding("CDG-D101", "info", message))
        wanted = wanted.without(facts.major(FRONTEND))
    return Result(tuple(_created(wanted.nodes, dev, dry_run=dry_run)), tuple(findings))


def _unloaded(path: str, module: str) -> Finding:
    """A control node without its module. Compute needs nvidia-uvm; few hosts need the others."""
    severity: Literal["warning", "debug"] = "warning" if module == "nvidia_uvm" else "debug"
    message = f"{path} is not created: the kernel module {module} is not loaded"
    fix = f"load it with: modprobe {module}"
    return Finding("CDG-H202", severity, message, subject=path, fix=fix)


def _created(nodes: Iterable[DriverNode], dev: Root, *, dry_run: bool) -> Iterator[NodeChange]:
    for node in nodes:
        path = dev.host_path(node.path)
        try:
            if dry_run:
                yield _change(node, path, _state_at(dev, node))
                continue
            with open_directory(dev, parent(node.path)) as directory:
                name = base_name(node.path)
                state = _state(node, name, directory)
                if state in {"absent", "stale"}:
                    _make(node, name, directory, replace=state == "stale")
                yield _change(node, path, state)
        except OSError as error:
            is_denied = isinstance(error, PermissionError)
            raise CdiGenError(
                f"cannot create {path}: {error.strerror}",
                hint="run the command as root, outside of a user namespace" if is_denied else None,
                code="CDG-D001",
                subject=path,
            ) from error


def _change(node: DriverNode, path: str, state: State) -> NodeChange:
    if state != "occupied":
        return NodeChange(node, path, state)
    message = f"{path} is not a device node; it is left as it is"
    fix = f"remove it, and run the command again: rm -r {path}"
    return NodeChange(
        node, path, state, Finding("CDG-D103", "warning", message, subject=path, fix=fix)
    )


def _state_at(dev: Root, node: DriverNode) -> State:
    try:
        status = dev.lstat(node.path)
    except OSError:
        return "absent"
    return _state_of(node, status)


def _state(node: DriverNode, name: str, directory: int) -> State:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return "absent"
    return _state_of(node, status)


def _state_of(node: DriverNode, status: os.stat_result) -> State:
    if not stat.S_ISCHR(status.st_mode):
        return "occupied"
    return "present" if status.st_rdev == os.makedev(node.major, node.minor) else "stale"


def _make(node: DriverNode, name: str, directory: int, *, replace: bool) -> None:
    """Create a node under a temporary name, and give it its name when it is complete."""
    temporary = temporary_name()
    try:
        device = os.makedev(node.major, node.minor)
        os.mknod(temporary, stat.S_IFCHR | 0o600, device, dir_fd=directory)
        os.chown(temporary, node.uid, node.gid, dir_fd=directory)
        os.chmod(temporary, node.file_mode, dir_fd=directory)
        if replace:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except FileExistsError:
        pass  # the driver or nvidia-modprobe has created it in the meantime
    finally:
        discard(temporary, directory)


@contextmanager
def open_directory(root: Root, path: str) -> Iterator[int]:
    """Yield a descriptor of a directory of a root, which is created if its parent exists.

    Raises:
        UnsafeError: users other than root and the caller can change the directory.
        OSError: the directory cannot be created or opened.
    """
    above, name = parent(path), base_name(path)
    try:
        resolved = root.resolve(path)
    except FileNotFoundError:
        resolved = join(root.resolve(above), name)
        os.mkdir(root.open_path(resolved), DIRECTORY_MODE)
        os.chmod(root.open_path(resolved), DIRECTORY_MODE)
    reason = trust.fault(root.open_path(resolved), owners=trust.machine_root_or_caller())
    if reason:
        subject = root.host_path(resolved)
        message = f"{subject} is not used: {reason}"
        raise UnsafeError(message, code="CDG-D002", subject=subject)
    descriptor = trust.open_directory(root.open_path(resolved))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
