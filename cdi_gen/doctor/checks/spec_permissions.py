# SPDX-License-Identifier: Apache-2.0
"""Whether engines may read the specs, and only root may change them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from shlex import quote

from cdi_base import trust
from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.paths import parent

UNREADABLE, CHANGEABLE, UNSAFE_DIRECTORY = "CDG-F107", "CDG-F108", "CDG-F005"


def examine(host: Host) -> Iterator[Finding]:
    """Yield the files and directories with a wrong owner or mode."""
    files = host.registry(installed_specs.directories(host)).files
    if not files:
        raise NotApplicable("the spec directories have no file")
    for directory in dict.fromkeys(parent(file.path) for file in files):
        yield from _directory(host, directory)
    for file in files:
        yield from _file(host, file.path)


def _directory(host: Host, path: str) -> Iterator[Finding]:
    link = host.link(path)
    if link is not None:
        yield Finding(
            "CDG-A220",
            "info",
            f"{path} is a link to {link}; the runtime shim and the prestart hook read no specs in "
            "such a directory",
            subject=path,
        )
    status = host.status(path, follow=True)
    if status is None:
        return
    reason = trust.attributes_fault(status.uid, status.mode, _owners(host, path))
    if reason:
        yield Finding(
            UNSAFE_DIRECTORY,
            "error",
            f"{path} {reason}: a user who can write a spec decides what root runs",
            subject=path,
            fix=f"sudo chown root:root {quote(path)} && sudo chmod 755 {quote(path)}",
        )
    elif not status.mode & stat.S_IXOTH and not _is_of_user(host, path):
        yield Finding(
            UNREADABLE,
            "warning",
            f"{path} is closed to ordinary users (mode {stat.S_IMODE(status.mode):04o}): rootless "
            "engines find no spec there",
            subject=path,
            fix=f"sudo chmod 755 {quote(path)}",
        )


def _file(host: Host, path: str) -> Iterator[Finding]:
    status = host.status(path)
    if status is None or stat.S_ISDIR(status.mode):
        return
    if stat.S_ISLNK(status.mode):
        yield Finding(
            "CDG-A220",
            "info",
            f"{path} is a link to {host.link(path)}; the runtime shim and the prestart hook do not "
            "read it",
            subject=path,
        )
        return
    reason = trust.attributes_fault(status.uid, status.mode, _owners(host, path))
    if reason:
        yield Finding(
            CHANGEABLE,
            "error",
            f"{path} {reason}: the user decides what root runs when a container starts",
            subject=path,
            fix=f"sudo chown root:root {quote(path)} && sudo chmod 644 {quote(path)}",
        )
    elif not status.mode & stat.S_IROTH and not _is_of_user(host, path):
        yield Finding(
            UNREADABLE,
            "error" if host.uid else "warning",
            f"{path} has mode {stat.S_IMODE(status.mode):04o}: rootless engines cannot read it "
            '("unresolvable CDI devices")',
            subject=path,
            fix=f"sudo chmod 644 {quote(path)}",
        )


def _owners(host: Host, path: str) -> tuple[int, ...]:
    return (0, host.uid) if _is_of_user(host, path) else (0,)


def _is_of_user(host: Host, path: str) -> bool:
    """Whether a path is in a directory that only this user's own engines read."""
    home = host.variable("HOME") or "/root"
    return host.uid != 0 and path.startswith((f"{home}/", f"/run/user/{host.uid}/"))


CHECK = Check(
    "spec-permissions",
    "security",
    "engines may read the specs, and only root may change them",
    examine,
)
