# SPDX-License-Identifier: Apache-2.0
"""Tells systemd about the state of this process, by the protocol of sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """The service manager that started this process, if one did.

    Args:
        environment: the variables of the process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        address = variables.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        microseconds = variables.get("WATCHDOG_USEC", "")
        is_for_us = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = int(microseconds) / 1e6 if microseconds.isdecimal() and is_for_us else None
        self.watchdog_seconds = limit
        """Without a sign of life for so long the process is killed; None: there is no limit."""

    def ready(self, status: str) -> None:
        """The process works."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """A line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """A sign of life."""
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The process is about to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.sendto(message.encode(), self._address)
        except OSError:
            return  # systemd is being executed again; the next message reaches it
