# SPDX-License-Identifier: Apache-2.0
"""The directory of a control daemon below ``--mps-root``, and its socket for containers.

====================  =========================================================================
``NAME/pipe``         the daemon's pipe directory; no container gets it
``NAME/log/control``  what daemon and server print
``NAME/clients``      the directory that containers get: a link to the socket ``control``
``lib``               links to the driver's libraries, for all daemons
====================  =========================================================================

The socket is linked and not mounted by itself, because a daemon that starts again makes another
one, which a container that runs would never see.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cdi_base import files, trust
from cdi_gen.kubernetes.mps.errors import MpsError, SilentDaemonError
from cdi_gen.kubernetes.resources.mps import CLIENTS, PIPE_DIRECTORY, MpsDaemon

SOCKET = "control"
MAX_LOG_BYTES = 1 << 20

CONTAINER_LABEL = b"system_u:object_r:container_file_t:s0\0"
"""The SELinux label of files that containers may use."""

_SELINUX = "/sys/fs/selinux/enforce"


@dataclass(frozen=True, slots=True)
class MpsRoot:
    """The directory of all daemons."""

    path: str
    """On the host."""
    host_root: str = "/"
    """The path of the host's ``/`` for this process."""

    @property
    def seen(self) -> str:
        """The path for this process."""
        return self.host_root.rstrip("/") + self.path

    @property
    def libraries(self) -> str:
        """The directory with links to the driver's libraries, on the host."""
        return f"{self.path}/lib"

    def make_libraries(self, libraries: Mapping[str, str]) -> None:
        """Make the links to the driver's libraries, given by their names.

        Raises:
            MpsError: the links cannot be made.
        """
        folder = self._make("lib")
        for name, target in libraries.items():
            link = f"{folder}/{name}"
            with _explained(link):
                if os.path.lexists(link) and os.readlink(link) != target:
                    os.unlink(link)
                if not os.path.lexists(link):
                    os.symlink(target, link)

    def names(self) -> list[str]:
        """Return the names of daemons that have a pipe directory.

        None, if another user could have made the directories: what is named here may be removed.
        """
        try:
            if trust.fault(self.path, seen_from=self.host_root.rstrip("/") or "/"):
                return []
            names = os.listdir(self.seen)
        except OSError:
            return []
        return [
            name
            for name in names
            if name.startswith(("GPU-", "gpus-")) and os.path.isdir(f"{self.seen}/{name}/pipe")
        ]

    def environment(self, name: str, uuids: Iterable[str] = ()) -> dict[str, str]:
        """Return the variables of a daemon, and of the program that sends it commands."""
        values = {
            PIPE_DIRECTORY: f"{self.path}/{name}/pipe",
            "CUDA_MPS_LOG_DIRECTORY": f"{self.path}/{name}/log",
        }
        devices = ",".join(uuids)
        return {**values, **({"CUDA_VISIBLE_DEVICES": devices} if devices else {})}

    def make(self, daemon: MpsDaemon) -> None:
        """Make the directories of a daemon, for root alone to change.

        Raises:
            MpsError: they cannot be made, or another user could change them.
        """
        for part in ("pipe", "log", CLIENTS):
            folder = self._make(f"{daemon.name}/{part}")
            if part == CLIENTS and os.path.exists(_SELINUX):
                with _explained(folder):
                    os.setxattr(folder, "security.selinux", CONTAINER_LABEL)

    def _make(self, name: str) -> str:
        path = f"{self.path}/{name}"
        seen = f"{self.seen}/{name}"
        prefix = self.host_root.rstrip("/") or "/"
        with _explained(path):
            fault = trust.fault(path, seen_from=prefix, may_be_missing=True)
            if fault is None:
                files.make_directory(seen)
                fault = trust.fault(path, seen_from=prefix)
        if fault is not None:
            raise MpsError(
                f"the directory of MPS is not used: {fault}",
                hint="give a directory that only root can change with --mps-root",
                subject=path,
            )
        return seen

    def open_log(self, daemon: MpsDaemon) -> int:
        """Return a descriptor of a daemon's log.

        Raises:
            MpsError: the log cannot be opened.
        """
        path = self._log(daemon.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with _explained(path):
            return os.open(path, flags, 0o644)

    def shorten_log(self, name: str) -> None:
        """Empty a daemon's log if it is long. The daemon goes on at its end, which is the start."""
        path = self._log(name)
        with contextlib.suppress(OSError):  # that is no reason to take the GPU from pods
            if os.lstat(path).st_size > MAX_LOG_BYTES:
                log = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.ftruncate(log, 0)
                finally:
                    os.close(log)

    def log_end(self, daemon: MpsDaemon) -> str:
        """Return the last line of a daemon's log, without its time; empty if there is none."""
        try:
            content = files.read_beginning(self._log(daemon.name), 16 * MAX_LOG_BYTES)
        except OSError:
            return ""
        line = content.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
        return re.sub(r"^\[[^]]*\] *", "", line)

    def _log(self, name: str) -> str:
        return f"{self.seen}/{name}/log/control"

    def process(self, name: str) -> int:
        """Return the id of the process that listens on a daemon's socket.

        It is 0 if the process is in another PID namespace. The kernel is asked, because every user
        may write to the daemon's own file with the id.

        Raises:
            SilentDaemonError: nothing listens there.
        """
        try:
            folder = os.open(f"{self.seen}/{name}/pipe", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SilentDaemonError("the daemon has no directory") from error
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(1.0)
            try:
                # The path of a socket has 107 bytes at most; the host's root may be anywhere.
                client.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            except OSError as error:
                raise SilentDaemonError("no daemon listens on its socket") from error
            finally:
                os.close(folder)
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])

    def is_silent(self, name: str) -> bool:
        """Whether nothing listens on a daemon's socket; a daemon that hangs does listen."""
        try:
            self.process(name)
        except SilentDaemonError:
            return True
        return False

    def publish(self, daemon: MpsDaemon) -> None:
        """Put the daemon's socket where containers see it.

        Raises:
            MpsError: the file system refuses.
        """
        folder = f"{self.seen}/{daemon.name}"
        new = f"{folder}/{CLIENTS}/.{SOCKET}"
        with _explained(new):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            os.link(f"{folder}/pipe/{SOCKET}", new)
            if os.path.exists(_SELINUX):
                os.setxattr(new, "security.selinux", CONTAINER_LABEL)
            os.rename(new, f"{folder}/{CLIENTS}/{SOCKET}")
            # Nothing happens if both names are links to the same file.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)

    def remove(self, name: str) -> None:
        """Remove the directories of a daemon that has ended."""
        shutil.rmtree(f"{self.seen}/{name}", ignore_errors=True)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MpsError(
            f"{path} cannot be made: {error.strerror or error}",
            hint="run as root; mount the directory of --mps-root, or the host's / with --host-root",
            subject=path,
        ) from error
