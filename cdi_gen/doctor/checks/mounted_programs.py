# SPDX-License-Identifier: Apache-2.0
"""Whether the programs that specs mount find their loader in a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from shlex import quote

from cdi_base import elf
from cdi_base.files import open_regular
from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check
from cdi_gen.doctor.host import Host

OF_ALL_IMAGES = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", "/lib32/", "/libx32/")
"""Where images have the loader of glibc."""
IMAGES_LOADER = "/lib64/ld-linux-x86-64.so.2"
MAX_PROGRAMS = 64


def examine(host: Host) -> Iterator[Finding]:
    """Yield the programs whose loader is in a directory that images do not have."""
    for spec in installed_specs.require_specs(host).specs:
        mounts = [mount for edits in spec.edits for mount in edits.mounts]
        targets = {mount.container_path for mount in mounts}
        programs = {
            mount.container_path: mount.host_path
            for mount in mounts
            if "/bin/" in mount.container_path
        }
        for path, program in [*programs.items()][:MAX_PROGRAMS]:
            loader = _loader(host, program)
            if loader and not loader.startswith(OF_ALL_IMAGES) and not _is_in(loader, targets):
                yield Finding(
                    "CDG-A236",
                    "warning",
                    f"{spec.path} mounts {program}, whose loader {loader} containers do not have: "
                    '"no such file or directory"',
                    subject=program,
                    fix=f"{IMAGES_LOADER} {quote(path)}  # in the container; or mount the loader: "
                    f"podman run -v {_top(loader)}:{_top(loader)}:ro",
                )


def _top(loader: str) -> str:
    """Return the first two directories of a path: ``/nix/store``."""
    return "/".join(loader.split("/")[:3])


def _is_in(path: str, targets: set[str]) -> bool:
    """Whether a path is one of the mounts, or below one."""
    while path:
        if path in targets:
            return True
        path = path.rpartition("/")[0]
    return False


def _loader(host: Host, program: str) -> str | None:
    """Return the interpreter that a program of the host names; None if it names none."""

    def read() -> str | None:
        try:
            descriptor = open_regular(host.root.open_path(host.root.resolve(program)))
        except OSError:
            return None
        try:
            interpreter = elf.interpreter(descriptor)
        except (OSError, elf.ElfError):
            return None
        finally:
            os.close(descriptor)
        return interpreter.decode("utf-8", "replace") if interpreter else None

    loader: str | None = host.fact("loader", read, program)
    return loader


CHECK = Check("mounted-programs", "specs", "programs of the driver find their loader", examine)
