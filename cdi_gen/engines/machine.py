# SPDX-License-Identifier: Apache-2.0
"""The machine: the programs of engines, their output, and configuration files."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from glob import glob
from typing import IO, cast

from cdi_base import trust
from cdi_gen.engines.change import configuration_file
from cdi_gen.engines.change.record import digest
from cdi_gen.errors import UnsafeError
from cdi_gen.paths import base_name, join

_VERSION = re.compile(r"(?<![\w.])v?([0-9]{1,6}\.[0-9]{1,6}(?:\.[0-9]{1,6})?)")

USUAL_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""The directories in which systemd's daemons search for programs, whatever the user's PATH is."""

_MULTI_CALL_PROGRAM = "k3s"
"""One file that contains several programs; ``argv[0]`` selects one."""

TIMEOUT_SECONDS = 3.0
"""The time after which a program is killed: a daemon may hang, but ``engine list`` must not."""


MAX_OUTPUT = 16 << 20
"""Bytes of output after which a program is killed. `docker info` prints some kilobytes."""


def printed_version(text: str) -> str | None:
    """The first version in a program's output: ``4.3.1`` of ``podman version 4.3.1``.

    A build between releases has no version: Docker's nightly packages (``0.0.0-20240915002115-…``)
    and the programs of ``go install`` have 0.0.0, which is older than every release.
    """
    match = _VERSION.search(text)
    return match[1] if match and match[1].strip("0.") else None


class Machine:
    """The interface of the engines' modules to the machine; tests replace it."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, uid: int | None = None
    ) -> None:
        self.environment = os.environ if environment is None else environment
        self.uid = os.geteuid() if uid is None else uid

    @property
    def config_home(self) -> str:
        """The directory of the user's configuration: ``$XDG_CONFIG_HOME``, else ``~/.config``."""
        home = self.environment.get("HOME") or "/"
        return self.environment.get("XDG_CONFIG_HOME") or join(home, ".config")

    @property
    def runtime_directory(self) -> str:
        """The directory of the user's sockets: ``$XDG_RUNTIME_DIR``, else systemd's default."""
        return self.environment.get("XDG_RUNTIME_DIR") or f"/run/user/{self.uid}"

    @property
    def trusted(self) -> tuple[int, ...]:
        """The user ids that may own the programs and files of this user's engines."""
        return (0, self.uid) if self.uid else (0,)

    def check_program(self, path: str) -> None:
        """Reject a program for an engine to run, if an untrusted user could change the program.

        Raises:
            UnsafeError: an untrusted user could change the program.
        """
        try:
            fault = trust.fault(path, owners=self.trusted, may_be_missing=True)
        except OSError as error:
            fault = error.strerror
        if fault:
            raise UnsafeError(
                f"{path} is not safe for an engine to run: {fault}",
                hint="only root may be able to change the program and the directories above it: "
                "correct owner and mode (root:root 0755), or name another program",
                code="CDG-E008",
                subject=path,
            )

    def program(self, name: str) -> str | None:
        """The path of a program in PATH or the usual directories."""
        path = self.environment.get("PATH", "").split(":")
        return self.find_program(
            name, (*(folder for folder in path if folder.startswith("/")), *USUAL_DIRECTORIES)
        )

    def find_program(self, name: str, directories: Iterable[str]) -> str | None:
        """The first program of a name in these directories."""
        for directory in directories:
            path = join(directory, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        return None

    def exists(self, path: str) -> bool:
        """Whether anything is at a path."""
        return os.path.exists(path)

    def newest_program(self, patterns: Iterable[str]) -> str | None:
        """The newest trusted program that the first pattern with a program leads to."""
        for pattern in patterns:
            for path in sorted(glob(pattern), key=os.path.getmtime, reverse=True):
                if os.path.isfile(path) and os.access(path, os.X_OK) and self.trusts(path):
                    return path
        return None

    def trusts(self, program: str) -> bool:
        """Whether no untrusted user can change a program, so that we may start it."""
        try:
            return trust.fault(program, owners=self.trusted) is None
        except OSError:
            return False

    def processes(self, program: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The path and the arguments of each process of a program that has our root directory.

        Only processes of trusted users and of trusted programs count: any user can start a program
        under any name, and cdi-gen runs the program to read its version.
        """
        own_root = os.stat("/")
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                root = os.stat(f"/proc/{name}/root")
                path = os.readlink(f"/proc/{name}/exe").removesuffix(" (deleted)")
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read(1 << 16).decode("utf-8", "replace").split("\0")
                with open(f"/proc/{name}/status", "rb") as file:
                    user = int(file.read(1 << 12).partition(b"\nUid:")[2].split()[0])
            except OSError:
                continue
            program_name = os.path.basename(path)
            if program_name == _MULTI_CALL_PROGRAM:
                program_name = os.path.basename(words[0])
            same_root = (root.st_dev, root.st_ino) == (own_root.st_dev, own_root.st_ino)
            is_trusted = user in self.trusted and self.trusts(path)
            if program_name == program and same_root and is_trusted:
                yield path, tuple(words)

    def search_path(self, program: str) -> tuple[str, ...] | None:
        """The directories in PATH of a running daemon of root; None if none runs or is visible."""
        own_root = os.stat("/")
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if base_name(os.readlink(f"/proc/{name}/exe")) != program:
                    continue
                root = os.stat(f"/proc/{name}/root")
                with open(f"/proc/{name}/environ", "rb") as file:
                    variables = file.read(1 << 16).decode("utf-8", "replace").split("\0")
                is_root = os.stat(f"/proc/{name}").st_uid == 0
            except OSError:
                continue
            path = next((text[5:] for text in variables if text.startswith("PATH=")), "")
            if is_root and (root.st_dev, root.st_ino) == (own_root.st_dev, own_root.st_ino):
                return tuple(path.split(":")) or None
        return None

    def is_ours(self, path: str) -> bool:
        """Whether cdi-gen created a file, and no other program has changed it since.

        Raises:
            CdiGenError: the file cannot be read, or its record cannot be read or trusted.
        """
        file = configuration_file.read(path)
        record = configuration_file.recorded(file, trusted=self.trusted)
        is_created = bool(record.steps) and record.steps[0].before is None
        return is_created and record.is_all(digest(file.data))

    def output(self, *command: str) -> str | None:
        """The output of a program; None if it cannot be run, fails, or does not end in time.

        None also if it prints more than `MAX_OUTPUT`.

        A program that an untrusted user could change is not run.
        """
        if not self.trusts(command[0]):
            return None
        environment = {**self.environment, "LC_ALL": "C.UTF-8"}
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None
        output = _output(process, time.monotonic() + TIMEOUT_SECONDS)
        if output is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # its children have the pipe open too
        with process:  # closes the pipe, and waits
            pass
        return None if output is None or process.returncode else output.decode("utf-8", "replace")

    def version(self, program: str | None) -> str | None:
        """The version that a program prints."""
        return printed_version(self.output(program, "--version") or "") if program else None

    def text(self, path: str) -> str | None:
        """The text of a configuration file; None if the file does not exist.

        Raises:
            CdiGenError: the file cannot be read.
        """
        return configuration_file.read_text(path)

    def files(self, directory: str, suffix: str = "") -> tuple[str, ...]:
        """The paths of the files in a directory whose names have this suffix, sorted by name."""
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(suffix))
        except OSError:
            return ()
        return tuple(join(directory, name) for name in names)


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What a program prints until it ends; None if that takes too long, or is too much."""
    pipe = cast("IO[bytes]", process.stdout)
    content = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(content) <= MAX_OUTPUT and selector.select(max(0, deadline - time.monotonic())):
            chunk = os.read(pipe.fileno(), 1 << 16)
            content += chunk
            if not chunk:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0, deadline - time.monotonic()))
                    return bytes(content)
                return None
    return None
