# SPDX-License-Identifier: Apache-2.0
"""Faults of the driver's files in a running container: deleted, not of the module, not found."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.containers.loader import LIBRARIES
from cdi_gen.containers.mounts import DELETED, Mount
from cdi_gen.why import container_advice
from cdi_gen.why.container_facts import Facts, configured_mounts, is_driver_node

_VERSION = r"(\d{3}\.\d+(?:\.\d+)?)"
_DRIVER_FILE = re.compile(
    rf"lib(?:cuda|nvidia-[a-z0-9-]+|nvcuvid|nvoptix|GLX_nvidia|EGL_nvidia)\.so\.{_VERSION}",
    re.ASCII,
)
"""A library of the driver, whose name ends with the driver's version."""
_MODULE_LIBRARIES = re.compile(rf"lib(?:cuda|nvidia-ml)\.so\.{_VERSION}", re.ASCII)

MPS_DIRECTORY = "/tmp/nvidia-mps"  # noqa: S108 - the directory's name is NVIDIA's
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


class DriverFiles(NamedTuple):
    """The driver's files that are mounted in a container."""

    mounts: tuple[Mount, ...]
    versions: tuple[str, ...]
    """Of libcuda and libnvidia-ml."""

    @property
    def deleted(self) -> tuple[Mount, ...]:
        """Those that the host does not have any more."""
        return tuple(mount for mount in self.mounts if mount.is_deleted)


def driver_files(facts: Facts) -> DriverFiles:
    """Return the mounted files of the driver: by their names, or because the spec names them."""
    from_spec = {_merged(mount.container_path) for mount in facts.edits.mounts}
    mounts = tuple(
        mount
        for mount in facts.examination.mounts
        if _merged(mount.point) in from_spec
        or _DRIVER_FILE.fullmatch(posixpath.basename(_source(mount)))
    )
    versions = {
        match[1]
        for mount in mounts
        if (match := _MODULE_LIBRARIES.fullmatch(posixpath.basename(_source(mount))))
    }
    return DriverFiles(mounts, tuple(sorted(versions)))


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield the faults of the driver's files, the one that explains most first."""
    files = driver_files(facts)
    deleted = files.deleted
    if deleted:
        names = [_source(mount) for mount in deleted]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding(
            "CDG-Y221",
            "error",
            f"{names[0]}{more}, mounted in the container, is deleted on the host: the driver was "
            "updated while the container ran",
            subject=names[0],
            fix=f"sudo cdi-gen refresh && {container_advice.create_again(facts)}",
        )
    driver = facts.host.inventory.driver if facts.host.inventory else None
    other = [version for version in files.versions if driver and version != driver.version]
    if driver and other:
        yield Finding(
            "CDG-Y222",
            "error",
            f"the libraries in the container are of driver {', '.join(other)}, and the loaded "
            f"module is {driver.version}: NVML says '{MISMATCH}'",
            subject=files.versions[0],
            fix=f"sudo cdi-gen refresh && {container_advice.create_again(facts)}",
        )
    yield from _not_found(facts, files)
    yield from _from_other_spec(facts)
    yield from _mps(facts)


def _not_found(facts: Facts, files: DriverFiles) -> Iterator[Finding]:
    """Libraries that the loader of the container does not find."""
    programs = facts.examination.programs
    if programs is None or not any(is_driver_node(node.path) for node in facts.nodes):
        return
    missing = [name for name in LIBRARIES if programs.libraries.get(name) is None]
    if not missing:
        return
    mounted = sorted(
        {
            posixpath.dirname(mount.point)
            for mount in files.mounts
            if _MODULE_LIBRARIES.fullmatch(posixpath.basename(_source(mount)))
        }
    )
    names = ", ".join(missing)
    if not mounted:
        yield Finding(
            "CDG-Y223",
            "error",
            f"the container has device nodes of the driver, and no {names}: neither is it mounted "
            "nor does the image have it",
            subject=missing[0],
            fix=container_advice.recreate(facts),
        )
        return
    reasons = {
        "read": "/etc/ld.so.cache does not have it",
        "absent": "there is no /etc/ld.so.cache",
        "damaged": "/etc/ld.so.cache cannot be read",
        "musl": "musl's loader does not search this directory",
    }
    yield Finding(
        "CDG-Y224",
        "error",
        f"the driver is mounted in {', '.join(mounted)}, and the container's loader does not find "
        f"{names}: {reasons[programs.cache]}, so the hook of the spec did not run",
        subject=missing[0],
        fix=f"sudo cdi-gen hook install && sudo cdi-gen generate -o /etc/cdi/nvidia.json && "
        f"{container_advice.create_again(facts)}",
    )


def _from_other_spec(facts: Facts) -> Iterator[Finding]:
    """Files that the installed spec mounts and the container does not have."""
    if not facts.edits.mounts or not facts.examination.mounts:
        return
    points = {_merged(mount.point) for mount in facts.examination.mounts}
    absent = [
        mount.container_path
        for mount in facts.edits.mounts
        if _merged(mount.container_path) not in points
    ]
    if absent:
        yield Finding(
            "CDG-Y226",
            "warning",
            f"the container lacks {len(absent)} of the {len(facts.edits.mounts)} files that "
            f"{', '.join(facts.spec_files)} mounts, for instance {absent[0]}: it was created with "
            "another spec",
            subject=absent[0],
            fix=container_advice.create_again(facts),
        )


def _mps(facts: Facts) -> Iterator[Finding]:
    """The control directory of MPS: every CUDA program becomes a client of the host's daemon."""
    mounted = any(mount.point == MPS_DIRECTORY for mount in facts.examination.mounts) or any(
        destination == MPS_DIRECTORY
        for _, destination in configured_mounts(facts.examination.configuration)
    )
    chosen = facts.environment.get("CUDA_MPS_PIPE_DIRECTORY", "")
    if mounted and not chosen:
        sources = ", ".join(
            file
            for file in facts.spec_files
            if any(mount.container_path == MPS_DIRECTORY for mount in facts.edits.mounts)
        )
        by = f", by {sources}" if sources else ""
        path = facts.spec_files[0] if sources else "/etc/cdi/nvidia.json"
        yield Finding(
            "CDG-Y231",
            "warning",
            f"{MPS_DIRECTORY} of the host is mounted in the container{by}: every CUDA program in "
            "it becomes a client of the host's MPS daemon, without having asked for it, and fails "
            "if the daemon serves another user",
            subject=MPS_DIRECTORY,
            fix=f"sudo cdi-gen generate -o {path} && {container_advice.create_again(facts)}",
        )


def _merged(path: str) -> str:
    """Return a path as the kernel names it where /lib, /bin and the like are links into /usr."""
    first = path.split("/")[1] if path.startswith("/") else ""
    return f"/usr{path}" if first in {"bin", "lib", "lib64", "sbin"} else path


def _source(mount: Mount) -> str:
    """Return the mounted file: its path in its file system, which for most is the host's path."""
    return mount.root.removesuffix(DELETED)
