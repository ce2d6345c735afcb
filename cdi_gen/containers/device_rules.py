# SPDX-License-Identifier: Apache-2.0
"""Reads which devices the control groups of a process let it open.

Version 1 has a list; version 2 has BPF programs, of the group and of the groups above, which are
read back from the kernel and interpreted. Both can apply at once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from cdi_base import control_groups, device_programs
from cdi_base.control_groups import CONTROLLER, VERSION_2, Hierarchy
from cdi_base.files import read_beginning
from cdi_gen.containers import device_program
from cdi_gen.containers.device_program import NotInterpretedError
from cdi_gen.containers.model import ALLOWED, REFUSED, UNKNOWN, UNRESTRICTED

MAX_BYTES = 1 << 20


class Device(NamedTuple):
    """What is asked about."""

    kind: str
    major: int
    minor: int


UNLISTED = Device("c", 511, 1_000_003)
"""A device that no driver has: a group that allows it allows every device."""


class Rules(NamedTuple):
    """The device rules of a process."""

    listed: tuple[str, ...] | None
    """The lines of devices.list; None if there is no group of version 1."""
    programs: tuple[bytes, ...]
    """The instructions of the programs of version 2."""
    fault: str = ""
    """Why the rules are not known completely; empty if they are."""

    def access(self, device: Device) -> str:
        """Return whether the device may be opened for reading and writing."""
        results = [_by_list(self.listed, device)] if self.listed is not None else []
        try:
            results += [_by_program(program, device) for program in self.programs]
        except NotInterpretedError:
            return UNKNOWN
        if not all(results):
            return REFUSED
        if self.fault:
            return UNKNOWN
        return ALLOWED if results else UNRESTRICTED


class Reader:
    """Reads the rules of processes; each group and each program is read once."""

    def __init__(self, mountinfo: str, own_groups: Mapping[str, str]) -> None:
        """Take the mounts and the control groups of this process."""
        self._mounted: list[Hierarchy] = control_groups.hierarchies(mountinfo)
        self._own_groups = own_groups
        self._programs: dict[int, bytes] = {}
        self._attached_programs: set[int] = set()
        self._by_directory: dict[tuple[str | None, str | None], Rules] = {}

    def read_again(self) -> None:
        """Read groups again from now on, and forget programs that no group had.

        The kernel does not give the number of a program to another one for 2^31 programs.
        """
        self._programs = {number: self._programs[number] for number in self._attached_programs}
        self._attached_programs.clear()
        self._by_directory.clear()

    def rules(self, groups: Mapping[str, str]) -> Rules:
        """Return the rules of a process that is in these groups."""
        directories = tuple(
            self._directory(controller, groups, version)
            for controller, version in ((CONTROLLER, 1), (VERSION_2, 2))
        )
        key = (directories[0], directories[1])
        if key not in self._by_directory:
            self._by_directory[key] = self._read(groups, *key)
        return self._by_directory[key]

    def _directory(self, controller: str, groups: Mapping[str, str], version: int) -> str | None:
        path = groups.get(controller)
        if path is None:
            return None
        return control_groups.directory(self._mounted, controller, path, version=version)

    def _read(
        self, groups: Mapping[str, str], version_1: str | None, version_2: str | None
    ) -> Rules:
        faults = []
        listed = None
        if version_1 is not None:
            try:
                content = read_beginning(f"{version_1}/devices.list", MAX_BYTES)
                listed = tuple(content.decode("ascii", "replace").splitlines())
            except OSError as error:
                faults.append(f"{version_1}/devices.list: {error.strerror}")
        elif self._is_hidden(CONTROLLER, groups):
            faults.append(f"the control group {groups[CONTROLLER]} is not mounted here")
        programs: tuple[bytes, ...] = ()
        if version_2 is not None:
            try:
                programs = tuple(self._attached(version_2))
            except OSError as error:
                # Without CAP_BPF and CAP_NET_ADMIN nobody may ask. Kernels before 4.15, and those
                # without CONFIG_CGROUP_BPF, have no device programs.
                if error.errno not in {errno.ENOSYS, errno.EINVAL}:
                    faults.append(f"{version_2}: {error.strerror}")
        elif CONTROLLER not in groups and self._is_hidden(VERSION_2, groups):
            faults.append(f"the control group {groups[VERSION_2]} is not mounted here")
        return Rules(listed, programs, "; ".join(faults))

    def _is_hidden(self, controller: str, groups: Mapping[str, str]) -> bool:
        """Whether a group that is not mounted may restrict a process more than this process."""
        path = groups.get(controller)
        return path is not None and path != self._own_groups.get(controller)

    def _attached(self, directory: str) -> Iterable[bytes]:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ids, _ = device_programs.attached(descriptor, effective=True)
        finally:
            os.close(descriptor)
        for program_id in ids:
            if program_id not in self._programs:
                self._programs[program_id] = _instructions(program_id)
            self._attached_programs.add(program_id)
            yield self._programs[program_id]


def _instructions(program_id: int) -> bytes:
    descriptor = device_programs.open_by_id(program_id)
    try:
        size = device_programs.describe(descriptor).size
        content = device_programs.instructions(descriptor, size) if size else None
    finally:
        os.close(descriptor)
    if content is None:
        raise OSError(errno.EPERM, "the kernel does not show the device program")
    return content


def _by_list(lines: Iterable[str], device: Device) -> bool:
    """Whether a line of devices.list allows reading and writing: the kernel combines no lines."""
    for line in lines:
        kind, _, rest = line.partition(" ")
        numbers, _, letters = rest.partition(" ")
        major, _, minor = numbers.partition(":")
        is_match = kind == "a" or (
            kind == device.kind
            and major in {"*", str(device.major)}
            and minor in {"*", str(device.minor)}
        )
        if is_match and {"r", "w"} <= set(letters):
            return True
    return False


@lru_cache(maxsize=4096)  # containers of one engine have equal programs
def _by_program(program: bytes, device: Device) -> bool:
    return device_program.allows(program, *device, "rw")
