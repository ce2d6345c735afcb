# SPDX-License-Identifier: Apache-2.0
"""Reads the state of the host that specs depend on, in a fraction of a millisecond.

Reading it opens no file of the driver except in procfs, and no device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from cdi_base import host_fingerprint
from cdi_base.host_fingerprint import Choices, Layout
from cdi_gen.catalogue import catalogue
from cdi_gen.programs import watch

PARTS = {
    3: "the configuration",
    4: "the driver",
    5: "the GPUs",
    6: "the MIG devices",
    8: "the device nodes",
    9: "the libraries",
    10: "the libraries",
    11: "the sockets of daemons",
}
"""What the items of a fingerprint are about."""


class HostState(NamedTuple):
    """The state of the host at one time."""

    fingerprint: list[object]
    instances: list[object]
    """The attributes of the directories of MIG devices. They change if a device is replaced by one
    with the same numbers, because the kernel's new directory has a new inode."""

    def difference(self, other: HostState) -> str:
        """Return what differs from another state, for people."""
        pairs = zip(self.fingerprint, other.fingerprint, strict=True)
        parts = [PARTS.get(number, "the host") for number, (a, b) in enumerate(pairs) if a != b]
        if self.instances != other.instances:
            parts.append(PARTS[6])
        return ", ".join(dict.fromkeys(parts))


class Observer:
    """Reads the state of a host.

    Args:
        layout: the directories of the driver.
        host_root: the path of the host's ``/`` for this process.
    """

    def __init__(self, layout: Layout, host_root: str = "/") -> None:
        self._choices = Choices(layout=layout, watch=watch.of_catalogue(catalogue()))
        self._prefix = host_root.rstrip("/")

    def state(self) -> HostState:
        """Return the state now."""
        fingerprint = host_fingerprint.key(self._choices, self._prefix)
        capabilities = f"{self._prefix}{host_fingerprint.DRIVER}/capabilities"
        return HostState(fingerprint, list(_instances(capabilities)))

    def directories(self) -> tuple[str, ...]:
        """Return the directories in which a change should be noticed at once.

        They are few, because each takes one of the 128 instances of inotify that a user has.
        """
        layout = self._choices.layout
        dev = f"{layout.dev_root}/dev"
        paths = (
            *(host_fingerprint.DEVICES, dev, f"{dev}/nvidia-caps"),
            f"{layout.driver_root}/etc",
        )
        return tuple(dict.fromkeys(f"{self._prefix}{path}" for path in paths))


def _instances(capabilities: str) -> Iterator[list[object]]:
    """Yield the name and the attributes of the directory of each GPU and compute instance."""
    for gpu in _names(capabilities, "gpu"):
        for gpu_instance in _names(f"{gpu}/mig", "gi"):
            for path in (gpu_instance, *_names(gpu_instance, "ci")):
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                yield [path, status.st_ino, status.st_ctime_ns]


def _names(directory: str, kind: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [f"{directory}/{name}" for name in names if name.startswith(kind)]
