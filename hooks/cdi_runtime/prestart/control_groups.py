# SPDX-License-Identifier: Apache-2.0
"""The control groups that restrict which devices a container may open.

Version 1 has a file, `devices.allow`; version 2 has programs (`device_filter`). A machine can have
both. Only the container's own groups are changed: not a group that the container shares with the
caller, not the groups above, and not a slice. With control groups of version 1, systemd 252 keeps a
scope's process in the devices group of the slice until the scope has a device of its own.
"""

from __future__ import annotations

import os

from cdi_base import control_groups, device_programs
from cdi_base.control_groups import CONTROLLER, SYSTEMD, VERSION_2
from cdi_base.errors import HookError, shown
from cdi_base.files import read_beginning
from cdi_runtime.prestart import device_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from cdi_runtime.prestart.device_filter import Rule

MAX_BYTES = 4 << 20
SCOPE, SLICE = ".scope", ".slice"


class Group:
    """A control group: its directory in a hierarchy, as a path of this process."""

    __slots__ = ("descriptor", "path", "version")

    def __init__(self, version: int, path: str, descriptor: int) -> None:
        self.version = version
        self.path = path
        self.descriptor = descriptor


class ControlGroups:
    """The control groups of a container that restrict its devices."""

    def __init__(self, container: int) -> None:
        """Find and open the groups.

        Args:
            container: an `O_PATH` descriptor of /proc/PID.

        Raises:
            HookError: the process has ended, or a hierarchy is not mounted.
        """
        self._paths = control_groups.memberships(_read("cgroup", container))
        own = control_groups.memberships(_read("/proc/self/cgroup"))
        self.groups: list[Group] = []
        for controller, version in ((CONTROLLER, 1), (VERSION_2, 2)):
            path = self._paths.get(controller)
            if path is None or path == own.get(controller) or path.endswith(SLICE):
                continue
            self.groups += _open(controller, version, path)

    @property
    def scope(self) -> str | None:
        """The systemd scope that the container is in; None if it is in no scope.

        A scope of a user's own systemd (below user@1000.service) restricts no devices and does not
        count.
        """
        for hierarchy in (SYSTEMD, VERSION_2):
            names = self._paths.get(hierarchy, "").split("/")
            # crun creates a group below systemd's scope.
            for name in names[:-3:-1]:
                if name.endswith(SCOPE) and not any(part.startswith("user@") for part in names):
                    return name
        return None

    def filters(self) -> set[int]:
        """Return the ids of the version 2 programs that are attached now."""
        return {
            program_id
            for group in self.groups
            if group.version == 2
            for program_id in _attached(group)
        }

    def allow(self, rules: Sequence[Rule], unchanged: Collection[int] = ()) -> None:
        """Allow the devices in each of the groups.

        Args:
            rules: the devices.
            unchanged: ids of version 2 programs that allow the devices already.

        Raises:
            HookError: the kernel refuses, for instance because a group above does not allow the
                devices.
        """
        for group in self.groups:
            if group.version == 1:
                _write_rules(group, rules)
            else:
                device_filter.allow(group.descriptor, rules, unchanged)


def _attached(group: Group) -> list[int]:
    try:
        return device_programs.attached(group.descriptor)[0]
    except OSError as error:
        raise HookError(
            f"cannot read the device filter of control group {shown(group.path)}: {error.strerror}",
            code="CDG-T202",
        ) from None


def _write_rules(group: Group, rules: Sequence[Rule]) -> None:
    try:
        file = os.open("devices.allow", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group.descriptor)
        try:
            for rule in rules:
                # The kernel accepts one rule a write.
                text = f"{rule.kind} {rule.major}:{rule.minor} {rule.access}"
                os.write(file, text.encode("ascii"))
        finally:
            os.close(file)
    except OSError as error:
        raise _error(f"{group.path}/devices.allow", error) from None


def _open(controller: str, version: int, path: str) -> Iterator[Group]:
    """Open the group, and before it the scope above it if there is one."""
    parent, _, _ = path.rpartition("/")
    # crun creates a group below systemd's scope, and systemd restricts the scope.
    for group in (parent, path) if parent.endswith(SCOPE) else (path,):
        directory = _directory(controller, version, group)
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _error(directory, error) from None
        yield Group(version, directory, descriptor)


def _error(path: str, error: OSError) -> HookError:
    return HookError(
        f"the container's control group, {shown(path)}: {error.strerror}", code="CDG-T201"
    )


def _directory(controller: str, version: int, path: str) -> str:
    """Return a group's directory in the mounts of this process."""
    mounted = control_groups.hierarchies(_read("/proc/self/mountinfo"))
    location = control_groups.directory(mounted, controller, path, version=version)
    if location is not None:
        return location
    raise HookError(
        f"the container's control group {shown(path)} is not in a mounted hierarchy",
        code="CDG-T201",
    )


def _read(path: str, directory: int | None = None) -> str:
    try:
        return os.fsdecode(read_beginning(path, MAX_BYTES, directory=directory))
    except OSError as error:
        raise _error(path, error) from None
