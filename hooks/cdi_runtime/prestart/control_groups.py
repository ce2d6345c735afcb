# SPDX-License-Identifier: Apache-2.0
"""The control groups that say which devices a container may open.

Version 1 has a file to write to, `devices.allow`; version 2 has programs (`device_filter`). A
machine may have both. A container that shares its group with the caller is restricted by nobody's
group but the caller's: that is left alone, and so are the groups above the container's own. So is a
slice: with control groups of version 1, systemd (252) has a scope's process in the slice's group of
devices until it is told of a device.
"""

from __future__ import annotations

import os

from cdi_base.errors import HookError, shown
from cdi_base.files import read_beginning
from cdi_runtime.prestart import device_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from cdi_runtime.prestart.device_filter import Rule

MAX_BYTES = 4 << 20
CONTROLLER = "devices"
SYSTEMD = "name=systemd"
VERSION_2 = ""
"""As /proc/PID/cgroup calls the hierarchy of version 2."""
SCOPE, SLICE = ".scope", ".slice"


class Group:
    """One directory of a hierarchy, as seen from here."""

    __slots__ = ("descriptor", "path", "version")

    def __init__(self, version: int, path: str, descriptor: int) -> None:
        self.version = version
        self.path = path
        self.descriptor = descriptor


class ControlGroups:
    """Those of a container that restrict its devices."""

    def __init__(self, container: int) -> None:
        """Find them.

        Args:
            container: an `O_PATH` descriptor of /proc/PID.

        Raises:
            HookError: the process is gone, or a hierarchy is not mounted where it can be reached.
        """
        self._paths = _memberships(_read("cgroup", container))
        own = _memberships(_read("/proc/self/cgroup"))
        self.groups: list[Group] = []
        for controller, version in ((CONTROLLER, 1), (VERSION_2, 2)):
            path = self._paths.get(controller)
            if path is None or path == own.get(controller) or path.endswith(SLICE):
                continue
            self.groups += _open(controller, version, path)

    @property
    def scope(self) -> str | None:
        """The systemd unit that the container is in; None where systemd knows of none.

        A user's own manager (below user@1000.service) restricts no devices.
        """
        for hierarchy in (SYSTEMD, VERSION_2):
            names = self._paths.get(hierarchy, "").split("/")
            # crun makes a group below systemd's scope.
            for name in names[:-3:-1]:
                if name.endswith(SCOPE) and not any(each.startswith("user@") for each in names):
                    return name
        return None

    def filters(self) -> set[int]:
        """The numbers of the programs of version 2 that are attached now."""
        return {
            number for group in self.groups if group.version == 2 for number in _attached(group)
        }

    def allow(self, rules: Sequence[Rule], known_to_allow: Collection[int] = ()) -> None:
        """Let the container open the devices, in each of its groups.

        Args:
            rules: what to allow.
            known_to_allow: programs of version 2 that do so already.

        Raises:
            HookError: the kernel refuses: a group above does not allow them, for one.
        """
        for group in self.groups:
            if group.version == 1:
                _write_rules(group, rules)
            else:
                device_filter.allow(group.descriptor, rules, known_to_allow)


def _attached(group: Group) -> list[int]:
    try:
        return device_filter.attached(group.descriptor)[0]
    except OSError as error:
        raise HookError(
            f"the device filter of {shown(group.path)}: {error.strerror}", code="CDG-T202"
        ) from None


def _write_rules(group: Group, rules: Sequence[Rule]) -> None:
    try:
        file = os.open("devices.allow", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group.descriptor)
        try:
            for rule in rules:
                # The kernel takes one rule a call.
                text = f"{rule.kind} {rule.major}:{rule.minor} {rule.access}"
                os.write(file, text.encode("ascii"))
        finally:
            os.close(file)
    except OSError as error:
        where = shown(f"{group.path}/devices.allow")
        raise HookError(
            f"the container's control group, {where}: {error.strerror}", code="CDG-T201"
        ) from None


def _open(controller: str, version: int, path: str) -> Iterator[Group]:
    """The scope that the group lies in, if it is a part of one, and the group."""
    above, _, _ = path.rpartition("/")
    # crun makes a group below systemd's scope, and systemd restricts the scope.
    for each in (above, path) if above.endswith(SCOPE) else (path,):
        place = _place(controller, version, each)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HookError(
                f"the container's control group, {shown(place)}: {error.strerror}", code="CDG-T201"
            ) from None
        yield Group(version, place, descriptor)


def _place(controller: str, version: int, path: str) -> str:
    """Where a group's directory is, in the mounts of this process."""
    for line in _read("/proc/self/mountinfo").split("\n"):
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" "), "", "", ""][:3]
        fields = before.split(" ")
        fits = (
            kind == "cgroup2"
            if version != 1
            else kind == "cgroup" and controller in options.split(",")
        )
        if not fits or len(fields) <= _MOUNT_POINT:
            continue
        root = fields[_ROOT].rstrip("/")
        # One outside of this process's control group namespace begins with /.. and is not mounted.
        inside = ".." not in path.split("/")
        if inside and (path == root or path.startswith(f"{root}/")):
            # Written with \\040 for a blank: nobody mounts control groups there.
            return fields[_MOUNT_POINT].rstrip("/") + path[len(root) :]
    raise HookError(
        f"the container's control group {shown(path)} is in no mounted hierarchy", code="CDG-T201"
    )


_ROOT, _MOUNT_POINT = 3, 4


def _memberships(text: str) -> dict[str, str]:
    """The group by controller, of the lines of /proc/PID/cgroup."""
    found = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _read(path: str, directory: int | None = None) -> str:
    try:
        return os.fsdecode(read_beginning(path, MAX_BYTES, directory=directory))
    except OSError as error:
        raise HookError(
            f"the container's control group, {shown(path)}: {error.strerror}", code="CDG-T201"
        ) from None
