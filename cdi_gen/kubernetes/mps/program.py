# SPDX-License-Identifier: Apache-2.0
"""Runs ``nvidia-cuda-mps-control``: as a control daemon, and to send commands to one.

It runs in the host's root directory, also when the plugin runs in a container: the host has the
device nodes, and a path is the same for the daemon and for the engine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cdi_base import trust
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.mps.errors import MpsError, SilentDaemonError
from cdi_gen.paths import base_name

CONTROL = "nvidia-cuda-mps-control"
SERVER = "nvidia-cuda-mps-server"
CUDA = "libcuda.so.1"

MULTIUSER = "-multiuser-server"
"""One server serves the clients of all users. The control program of driver 580 has the option,
that of 550 has not. Without it, clients of different users run one after the other."""

SECONDS = 10.0
"""The time that a daemon has for an answer; it takes 4 ms."""

_BECOME = (sys.executable, "-IS", os.path.join(os.path.dirname(__file__), "__main__.py"))

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_VALUE = re.compile(r"[\d.]+[GMK]?")
"""What commands that set or get a limit print; anything else is a complaint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlProgram:
    """The control program of a host."""

    path: str
    """On the host."""
    host_root: str = "/"
    """The path of the host's ``/`` for this process."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """How the program finds the server program and the driver's libraries."""

    def start(self, environment: Mapping[str, str], options: Sequence[str], log: int) -> int:
        """Start a daemon in a session of its own, so that it outlives the plugin.

        Args:
            environment: its directories and GPUs.
            options: options of the program.
            log: a descriptor for what daemon and server print.

        Returns:
            the id of its process, a child of this one.

        Raises:
            MpsError: the program cannot be run.
        """
        words = [*_BECOME, self.host_root, self.path, "-f", *options]
        try:
            return os.posix_spawn(
                words[0],
                words,
                {**self.environment, **environment},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
                setsigmask=(),
            )
        except OSError as error:
            raise self._unusable(error) from error

    def ask(self, environment: Mapping[str, str], *commands: str, seconds: float = SECONDS) -> str:
        """Send commands to a daemon; return what it answers.

        Raises:
            SilentDaemonError: there is no daemon, or it does not answer in time.
            MpsError: the program cannot be run.
        """
        try:
            process = subprocess.run(
                self._words,
                input="".join(f"{command}\n" for command in commands),
                capture_output=True,
                check=False,
                cwd="/",
                env={**self.environment, **environment},
                text=True,
                errors="backslashreplace",
                timeout=seconds,
            )
        except OSError as error:
            raise self._unusable(error) from error
        except subprocess.TimeoutExpired as error:
            raise SilentDaemonError(f"the daemon has not answered for {seconds:.0f} s") from error
        output = (process.stdout + process.stderr).strip()
        if process.returncode != 0:
            raise SilentDaemonError(output or f"{CONTROL} ended with status {process.returncode}")
        return output

    def limit(self, environment: Mapping[str, str], *commands: str) -> None:
        """Send commands that set limits.

        Raises:
            MpsError: the daemon does not accept one, or see `ask`.
        """
        for line in self.ask(environment, *commands).splitlines():
            if not _VALUE.fullmatch(line.strip()):
                raise MpsError(f"the daemon does not accept its limits: {line.strip()}")

    @property
    def _words(self) -> list[str]:
        return [self.path] if self.host_root == "/" else [*_BECOME, self.host_root, self.path]

    def _unusable(self, error: OSError) -> MpsError:
        return MpsError(f"{self.path} cannot be run: {error.strerror or error}", subject=self.path)


def control_program(inventory: Inventory, host_root: str, libraries: str) -> ControlProgram:
    """Return the control program of a host.

    Args:
        inventory: the host.
        host_root: the path of the host's ``/`` for this process.
        libraries: a directory of the host with links to the driver's libraries.

    Raises:
        MpsError: the driver has no such program, or an untrusted user could change it.
    """
    files = {file.entry: file.path for file in inventory.files}
    if CONTROL not in files or SERVER not in files:
        missing = CONTROL if CONTROL not in files else SERVER
        raise MpsError(
            f"the driver on this host has no {missing}",
            hint="install the driver's programs for MPS (Debian: nvidia-cuda-mps; Ubuntu: "
            "nvidia-compute-utils), or share by timeSlicing",
            subject=missing,
        )
    for path in (files[CONTROL], files[SERVER]):
        fault = _fault(path, host_root)
        if fault:
            raise MpsError(
                f"{path} is not run: {fault}",
                hint="give the program and its directories to root, mode 0755",
                subject=path,
            )
    folders = dict.fromkeys(path.rpartition("/")[0] for path in (files[CONTROL], files[SERVER]))
    return ControlProgram(
        path=files[CONTROL],
        host_root=host_root.rstrip("/") or "/",
        environment={"PATH": ":".join((*folders, _PATH)), "LD_LIBRARY_PATH": libraries},
    )


def driver_libraries(inventory: Inventory) -> dict[str, str]:
    """Return the paths of the driver's 64-bit libraries on the host by their SONAMEs.

    A daemon gets links to these and not their directory: in the root of a driver container, that
    directory has another C library, too.
    """
    return {
        name: library.path
        for library in inventory.libraries
        if library.bits == 64
        for name in (library.soname, base_name(library.path))
    }


def _fault(path: str, host_root: str) -> str | None:
    prefix = host_root.rstrip("/")
    try:
        return trust.fault(path, seen_from=prefix or "/")
    except OSError as error:
        return error.strerror or str(error)
