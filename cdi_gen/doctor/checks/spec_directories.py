# SPDX-License-Identifier: Apache-2.0
"""Whether spec directories are directories, and links in them lead to files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from shlex import quote

from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check
from cdi_gen.doctor.host import Host
from cdi_gen.paths import join

DEAD_DIRECTORY, NO_DIRECTORY, UNREADABLE_FILE = "CDG-Y004", "CDG-F106", "CDG-F107"
SUFFIXES = (".json", ".yaml")
MISNAMED_FILE = "CDG-A223"
SPEC_BEGINNING = 1 << 16
FILE = "nvidia.json"


def examine(host: Host) -> Iterator[Finding]:
    """Yield the directories that are no directory, and the links that lead to nothing."""
    for directory in installed_specs.directories(host):
        status = host.status(directory, follow=True)
        if status is None:
            yield from _dangling_directory(host, directory)
        elif not stat.S_ISDIR(status.mode):
            yield Finding(
                NO_DIRECTORY,
                "error",
                f"{directory} is not a directory: engines find no spec there",
                subject=directory,
                fix=f"sudo rm {quote(directory)} && {installed_specs.rewrite(_file(directory))}",
            )
        else:
            for name in host.entries(directory) or ():
                if name.endswith(SUFFIXES):
                    yield from _dangling_file(host, join(directory, name))
                else:
                    yield from _misnamed_file(host, join(directory, name))


def _dangling_directory(host: Host, directory: str) -> Iterator[Finding]:
    target = host.link(directory)
    if target is not None:
        yield Finding(
            DEAD_DIRECTORY,
            "error",
            f"{directory} is a symbolic link to {target}, which does not exist: engines find no "
            "spec there",
            subject=directory,
            fix=f"sudo rm {quote(directory)} && {installed_specs.rewrite(_file(directory))}  # or "
            f"mount the file system of {target}",
        )


def _dangling_file(host: Host, path: str) -> Iterator[Finding]:
    target = host.link(path)
    if target is not None and host.status(path, follow=True) is None:
        yield Finding(
            UNREADABLE_FILE,
            "error",
            f"{path} is a symbolic link to {target}, which does not exist: engines ignore it",
            subject=path,
            fix=f"sudo rm {quote(path)} && {installed_specs.rewrite(path)}  # or mount the file "
            f"system of {target}",
        )


def _misnamed_file(host: Host, path: str) -> Iterator[Finding]:
    if b"cdiVersion" in (host.read(path, SPEC_BEGINNING) or b""):
        yield Finding(
            MISNAMED_FILE,
            "warning",
            f"{path} looks like a spec, and engines read only files named *.json and *.yaml",
            subject=path,
            fix=f"sudo mv {quote(path)} {quote(path + '.yaml')}  # YAML readers read JSON too",
        )


def _file(directory: str) -> str:
    return join(directory, FILE)


CHECK = Check(
    "spec-directories",
    "specs",
    "spec directories are directories, and their links and names are those that engines read",
    examine,
)
