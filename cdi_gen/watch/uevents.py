# SPDX-License-Identifier: Apache-2.0
"""Receives the kernel's events about modules and PCI devices.

The kernel sends an event when a module is loaded or unloaded, and when a device appears, vanishes,
or a driver is bound to it or unbound. An event may be lost if many come at once, so that it only
ends a wait: the state of the host is what counts.
"""

from __future__ import annotations

import socket

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
"""The kernel's own messages; group 2 has those of udev, which may not run."""

_BYTES = 1 << 16
_WORDS = (b"nvidia", b"PCI_ID=10DE:")
"""Texts of the messages that concern the driver and its devices."""


class Uevents:
    """A source of wake-ups.

    Raises:
        OSError: the kernel does not permit it.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
        try:
            self._socket.bind((0, KERNEL_GROUP))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def read(self) -> bool:
        """Read all messages; return whether one concerns NVIDIA, or one was lost."""
        is_relevant = False
        while True:
            try:
                message = self._socket.recv(_BYTES)
            except BlockingIOError:
                return is_relevant
            except OSError:
                return True  # ENOBUFS: messages were lost
            is_relevant = is_relevant or concerns_nvidia(message)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def concerns_nvidia(message: bytes) -> bool:
    """Whether a message is about a module of the driver, or about a device of NVIDIA."""
    return any(word in message for word in _WORDS)


def uevents() -> Uevents | None:
    """Return the source; None if the kernel or a sandbox does not permit it."""
    try:
        return Uevents()
    except OSError:
        return None
