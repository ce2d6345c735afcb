# SPDX-License-Identifier: Apache-2.0
"""Whether this user can run rootless containers, and these can use the GPUs' nodes."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import users
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host

NEW_ID_MAPS = ("/usr/bin/newuidmap", "/bin/newuidmap", "/usr/sbin/newuidmap")
OPEN = stat.S_IROTH | stat.S_IWOTH
IN_GROUP = stat.S_IRGRP | stat.S_IWGRP


def _require_rootless(host: Host) -> None:
    if host.uid == 0:
        raise NotApplicable("this is about rootless engines; run cdi-gen doctor as their user")
    if not any(status.rootless for status in host.engines):
        raise NotApplicable("this user has no rootless engine")


def examine_ids(host: Host) -> Iterator[Finding]:
    """Yield that the user has no subordinate ids, or no program to use them."""
    _require_rootless(host)
    user = users.current(host)
    for path in ("/etc/subuid", "/etc/subgid"):
        if not users.has_range(host, path):
            yield Finding(
                "CDG-A250",
                "error",
                f"{path} has no range for {user.name}: rootless engines cannot map users",
                subject=path,
                fix=f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
                f"{user.name} && podman system migrate",
            )
    if not any(host.exists(path) for path in NEW_ID_MAPS):
        yield Finding(
            "CDG-A250",
            "error",
            "newuidmap is not installed: rootless engines cannot map users",
            subject="newuidmap",
            fix="sudo apt-get install uidmap  # Fedora, RHEL: sudo dnf install shadow-utils",
        )


def examine_runtime_directory(host: Host) -> Iterator[Finding]:
    """Yield that the user has no directory for sockets and specs."""
    _require_rootless(host)
    path = host.variable("XDG_RUNTIME_DIR")
    default = f"/run/user/{host.uid}"
    if not path:
        fix = f"export XDG_RUNTIME_DIR={default}"
        message = (
            "XDG_RUNTIME_DIR is not set, as after su or sudo: rootless engines then use other "
        )
        message += f"directories than the user's services, and no spec in {default}/cdi"
    elif host.status(path, follow=True) is None:
        name = users.current(host).name
        fix = f"sudo loginctl enable-linger {name}"
        message = f"XDG_RUNTIME_DIR is {path}, which does not exist"
    else:
        return
    yield Finding("CDG-A251", "warning", message, subject="XDG_RUNTIME_DIR", fix=fix)


def examine_nodes(host: Host) -> Iterator[Finding]:
    """Yield the nodes that this user cannot open."""
    if host.uid == 0:
        raise NotApplicable("root opens every node")
    inventory = host.inventory
    nodes = [*inventory.control_nodes, *(node for gpu in inventory.gpus for node in gpu.nodes)]
    drm = [node for gpu in inventory.gpus for node in gpu.drm_nodes]
    user = users.current(host)
    for paths, what in (
        ([node.path for node in nodes], "CUDA"),
        ([node.path for node in drm], "graphics"),
    ):
        closed: dict[int, list[str]] = {}
        for path in paths:
            status = host.status(path, follow=True)
            if status is None or status.mode & OPEN == OPEN:
                continue
            if status.mode & IN_GROUP == IN_GROUP and status.gid in user.groups:
                yield from _kept_groups(host, path, status.gid)
                return
            closed.setdefault(status.gid, []).append(path)
        for gid, names in closed.items():
            yield _closed(host, user, names, gid, what)


def _kept_groups(host: Host, path: str, gid: int) -> Iterator[Finding]:
    name = users.group_name(host, gid)
    yield Finding(
        "CDG-A252",
        "info",
        f"{path} is open to the group {name}: rootless containers need --group-add keep-groups",
        subject=path,
        fix="podman run --group-add keep-groups",
    )


def _closed(host: Host, user: users.User, paths: list[str], gid: int, what: str) -> Finding:
    group = users.group_name(host, gid)
    others = f" and {len(paths) - 1} others" if len(paths) > 1 else ""
    return Finding(
        "CDG-A252",
        "error" if what == "CUDA" else "warning",
        f"{paths[0]}{others}: {user.name} is not in the group {group}, and cannot open the nodes "
        f"for {what}",
        subject=paths[0],
        fix=f"sudo usermod -aG {group} {user.name}  # then log in again, and: podman run "
        "--group-add keep-groups",
    )


CHECKS = (
    Check("rootless-ids", "rootless", "this user can run rootless containers", examine_ids),
    Check(
        "rootless-directory",
        "rootless",
        "this user has a runtime directory",
        examine_runtime_directory,
    ),
    Check("node-groups", "rootless", "this user may open the GPUs' nodes", examine_nodes),
)
