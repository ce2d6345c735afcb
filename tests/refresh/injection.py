# SPDX-License-Identifier: Apache-2.0
"""Faults in the calls by which a refresh changes files: the process is killed, or the call fails.

The calls are replaced in a fork, which takes a hundredth of the time of a process under strace.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from typing import Any

OF_OS = ("open", "write", "fsync", "fchmod", "rename", "unlink", "mkdir", "chmod")
CALLS: dict[str, Any] = dict.fromkeys(OF_OS, os) | {"flock": fcntl}


class Counter:
    """Counts the calls that change something; at one of them the fault comes.

    Calls of forks of the process do not count: a fork mounts the driver tree.
    """

    def __init__(self, at: int | None, fault: str = "") -> None:
        """Replace the calls for the rest of this process.

        Args:
            at: the number of the call, from 0; None: no fault.
            fault: ``KILL``, or the name of an error.
        """
        self.names: list[str] = []
        self._at = at
        self._fault = fault
        self._process = os.getpid()
        for name, module in CALLS.items():
            setattr(module, name, self._counted(name, getattr(module, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if os.getpid() != self._process:
                return call(*arguments, **options)
            if name == "open" and not arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                return call(*arguments, **options)
            self.names.append(name)
            if len(self.names) - 1 == self._at:
                if self._fault == "KILL":
                    os.kill(os.getpid(), signal.SIGKILL)
                number = getattr(errno, self._fault)
                raise OSError(number, os.strerror(number), arguments[0])
            return call(*arguments, **options)

        return counted
