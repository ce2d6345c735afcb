# SPDX-License-Identifier: Apache-2.0
"""The files of an installation beside the programs: units, udev rules, presets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from cdi_base.files import read
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import join, parent

DIRECTORIES = {
    ".service": "lib/systemd/system",
    ".path": "lib/systemd/system",
    ".timer": "lib/systemd/system",
    ".preset": "lib/systemd/system-preset",
    ".rules": "lib/udev/rules.d",
    ".conf": "share/cdi-gen",
}
"""The directory of each kind of file, below the prefix; systemd and udev read them below
``/usr/local`` too. A ``.conf`` is a drop-in that the administrator links."""

QUADLETS = ("container.d", "kube.d", "pod.d")
"""Directories of drop-ins for the quadlets of a kind, which Podman's generator reads."""

DROP_INS = ".d"
"""The suffix of a directory with drop-ins of another program's unit."""

PROGRAM = "@BINDIR@/cdi-gen"
"""What the files of the sources have in place of the path of `cdi-gen`."""

MAX_BYTES = 1 << 20


class HostFile(NamedTuple):
    """A file of the host."""

    path: str
    """The path without a build root."""
    content: bytes


def host_files(prefix: str, program: str) -> tuple[HostFile, ...]:
    """Return the files for a prefix.

    Args:
        prefix: the directory of the installation.
        program: the path of `cdi-gen` on the host, which units run.

    Raises:
        CdiGenError: the files of this installation are missing or not known.
    """
    source = _source()
    try:
        names = sorted(os.listdir(source))
    except OSError as error:
        raise CdiGenError(
            f"the units of cdi-gen cannot be read: {source}: {error.strerror}",
            hint="install cdi-gen again",
            code="CDG-P010",
            subject=source,
        ) from error
    files = []
    for name in names:
        if name.endswith(DROP_INS):
            paths = [f"{name}/{drop_in}" for drop_in in sorted(os.listdir(join(source, name)))]
        else:
            paths = [name]
        for path in paths:
            content = read(join(source, path), MAX_BYTES, follow=True)
            text = content.replace(PROGRAM.encode(), program.encode())
            files.append(HostFile(join(_directory(prefix, name), path), text))
    return tuple(files)


def enabled_by_preset(files: Iterable[HostFile]) -> list[str]:
    """Return the units that the preset enables: those that most hosts want."""
    lines = b"".join(file.content for file in files if file.path.endswith(".preset")).decode()
    return [line.split()[1] for line in lines.splitlines() if line.startswith("enable ")]


def _directory(prefix: str, name: str) -> str:
    """Return the directory in which a file, or a directory with drop-ins, is installed."""
    if name in QUADLETS:
        # Podman reads them in two directories, and in none below /usr/local.
        return join("/usr/share" if prefix == "/usr" else "/etc", "containers", "systemd")
    suffix = ".service" if name.endswith(DROP_INS) else os.path.splitext(name)[1]
    return join(prefix, DIRECTORIES[suffix])


def _source() -> str:
    """Return the directory of the files: in an installed cdi-gen beside this module."""
    directory = parent(os.path.abspath(__file__))
    installed = join(directory, "systemd")
    return installed if os.path.isdir(installed) else join(parent(parent(directory)), "systemd")
