# SPDX-License-Identifier: Apache-2.0
"""Finds the control groups of a process, and their directories.

The names of groups come from engines and from users; a container can create groups too.
"""

from __future__ import annotations

CONTROLLER = "devices"
SYSTEMD = "name=systemd"
VERSION_2 = ""
"""The name of the version 2 hierarchy in /proc/PID/cgroup."""

_ROOT, _MOUNT_POINT = 3, 4


class Hierarchy:
    """A mounted hierarchy of control groups."""

    __slots__ = ("controllers", "mount_point", "root", "version")

    def __init__(
        self, version: int, root: str, mount_point: str, controllers: frozenset[str]
    ) -> None:
        self.version = version
        self.root = root
        """The group that is mounted, without a slash at its end."""
        self.mount_point = mount_point
        self.controllers = controllers
        """Of version 1; empty for version 2."""

    def directory(self, path: str) -> str | None:
        """Return a group's directory; None if the group is outside of what is mounted."""
        # The path of a group outside of this process's cgroup namespace begins with /.., and the
        # group is not mounted.
        is_inside = ".." not in path.split("/")
        if is_inside and (path == self.root or path.startswith(f"{self.root}/")):
            return self.mount_point + path[len(self.root) :]
        return None


def memberships(text: str) -> dict[str, str]:
    """Return the path of the group of each controller in /proc/PID/cgroup."""
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def hierarchies(mountinfo: str) -> list[Hierarchy]:
    """Return the mounted hierarchies of a /proc/PID/mountinfo, in its order."""
    mounted = []
    for line in mountinfo.split("\n"):
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" "), "", "", ""][:3]
        fields = before.split(" ")
        if kind not in {"cgroup", "cgroup2"} or len(fields) <= _MOUNT_POINT:
            continue
        version = 2 if kind == "cgroup2" else 1
        controllers = frozenset(options.split(",")) if version == 1 else frozenset()
        # A blank would be written as \040; no mount point of control groups has one.
        root, mount_point = fields[_ROOT].rstrip("/"), fields[_MOUNT_POINT].rstrip("/")
        mounted.append(Hierarchy(version, root, mount_point, controllers))
    return mounted


def directory(mounted: list[Hierarchy], controller: str, path: str, *, version: int) -> str | None:
    """Return a group's directory in the hierarchy of a controller; None if it is not mounted."""
    for hierarchy in mounted:
        if hierarchy.version != version or (
            version == 1 and controller not in hierarchy.controllers
        ):
            continue
        location = hierarchy.directory(path)
        if location is not None:
            return location
    return None
