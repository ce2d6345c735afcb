# SPDX-License-Identifier: Apache-2.0
"""The engines of a host, or of the command line, as readers of spec files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from cdi_base.cdi.libraries import LIBRARIES
from cdi_base.findings import Finding
from cdi_gen import engines
from cdi_gen.cdi import consumers
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine
from cdi_gen.engines.status import CdiState, EngineStatus
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.paths import join
from cdi_gen.why.user import ROOT, User, acting_as

_PROGRAMS = {"docker": "dockerd"}
"""The programs whose version is the engine's, where they have another name."""


class Reader(NamedTuple):
    """An engine in one version and mode, which reads specs as one user."""

    engine: str
    version: str | None
    user: User
    rootless: bool
    cdi: CdiState
    directories: tuple[str, ...]
    """In rising priority."""
    source: str
    """Where the directories are configured: a file, a program, or ``default``."""
    library: str | None
    """The release of the standard's library; None if it is not known."""
    newest_cdi_version: str | None
    drops_groups: bool = False
    """The engine does not give a spec's `additionalGids` to the container's process."""
    findings: tuple[Finding, ...] = ()
    """What is wrong with the engine's configuration."""

    @property
    def has_daemon(self) -> bool:
        """Whether a daemon reads the specs, when it starts and when it is told of a change."""
        return self.engine in {"docker", "containerd", "crio"}

    @property
    def reads_as(self) -> str:
        """The release in `LIBRARIES` that reads specs as the engine's, or else the newest."""
        return consumers.reads_as(self.library) if self.library else LIBRARIES[-1]

    @property
    def title(self) -> str:
        """The engine in messages: ``podman 5.4.2 (rootless, alice)``."""
        mode = f" (rootless, {self.user.name})" if self.rootless else ""
        return f"{self.label}{mode}"

    @property
    def label(self) -> str:
        """The engine and its version."""
        return f"{self.engine} {self.version}" if self.version else self.engine

    @property
    def release(self) -> str:
        """The engine and its version as `--for` and `--engine` take them."""
        return f"{self.engine}@{self.version}" if self.version else self.engine


class HostMachine(Machine):
    """The machine below a root directory, with versions that are asked for once."""

    def __init__(
        self,
        environment: Mapping[str, str],
        uid: int,
        *,
        host_root: str = "/",
        versions: dict[str, str | None] | None = None,
        runs_programs: bool = True,
    ) -> None:
        super().__init__(environment, uid=uid)
        self.host_root = self._root = host_root
        self._versions: dict[str, str | None] = {} if versions is None else versions
        self._runs_programs = runs_programs and host_root == "/"

    def find_program(self, name: str, directories: Iterable[str]) -> str | None:
        """The first program of a name in these directories of the host."""
        paths = [join(self._root, directory) for directory in directories]
        program = super().find_program(name, paths)
        return program.removeprefix(self._root.rstrip("/")) if program else None

    def exists(self, path: str) -> bool:
        """Whether the host has anything at a path."""
        return super().exists(join(self._root, path))

    def text(self, path: str) -> str | None:
        """The text of a configuration file of the host; None if the file does not exist."""
        return super().text(join(self._root, path))

    def files(self, directory: str, suffix: str = "") -> tuple[str, ...]:
        """The paths of the files in a directory of the host."""
        paths = super().files(join(self._root, directory), suffix)
        return tuple(path.removeprefix(self._root.rstrip("/")) for path in paths)

    def search_path(self, program: str) -> tuple[str, ...] | None:
        """The directories in PATH of a running daemon; None for a host that does not run."""
        return super().search_path(program) if self._root == "/" else None

    def output(self, *command: str) -> str | None:
        """The output of a program; None for a program of another root, which cannot be started."""
        return super().output(*command) if self._runs_programs else None

    def version(self, program: str | None) -> str | None:
        """The version that a program prints."""
        if program and program not in self._versions:
            self._versions[program] = super().version(program)
        return self._versions[program] if program else None


class NamedMachine(HostMachine):
    """The machine as if an engine was installed in a version that the user names."""

    def __init__(
        self, engine: str, version: str, environment: Mapping[str, str], uid: int, host_root: str
    ) -> None:
        self._program = _PROGRAMS.get(engine, engine)
        super().__init__(
            environment,
            uid,
            host_root=host_root,
            versions={self._program: version},
            runs_programs=False,
        )

    def program(self, name: str) -> str | None:
        """The program of the named engine."""
        return name if name == self._program else None


def installed(
    user: User,
    environment: Mapping[str, str],
    host_root: str = "/",
    names: Sequence[str] = engines.NAMES,
) -> list[Reader]:
    """Return the engines of the host: those of root, and the rootless engines of a user.

    Args:
        user: the user whose rootless engines are listed; root has none.
        environment: of this process; it is the user's own if the user runs it.
        host_root: the path of the host's ``/``.
        names: the engines that are asked.
    """
    versions: dict[str, str | None] = {}
    machine = HostMachine(
        {**ROOT.environment, "PATH": _search_path(environment)},
        0,
        host_root=host_root,
        versions=versions,
    )
    statuses = engines.statuses(machine, names)
    readers = [reader_of(status, ROOT) for status in statuses if not status.rootless]
    if user.uid == 0:
        return readers
    own = environment if _is_calling(user) else user.environment
    users_machine = HostMachine(
        own, user.uid, host_root=host_root, versions=versions, runs_programs=_is_calling(user)
    )
    return readers + _of_user(users_machine, user, names)


def names_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the engines that texts like ``docker`` mean; of no text, all.

    An unknown name is left out: `named` rejects it.
    """
    if not texts:
        return engines.NAMES
    names = set()
    for text in texts:
        with suppress(consumers.UnknownConsumerError):
            names.add(consumers.find(text).name)
    return tuple(name for name in engines.NAMES if name in names)


def named(
    text: str,
    user: User,
    environment: Mapping[str, str],
    installed_readers: Iterable[Reader],
    host_root: str = "/",
) -> list[Reader]:
    """Return the engine of ``ENGINE`` or ``ENGINE@VERSION`` as if it was installed on the host.

    An engine without a version is the installed one, or else its newest release.

    Raises:
        UsageError: the engine is not known, or the version is none.
    """
    name, _, version = text.partition("@")
    try:
        newest = consumers.find(name)
    except consumers.UnknownConsumerError as error:
        raise UsageError(f"--engine: {error}", code="CDG-U003", subject="--engine") from error
    if not version:
        readers = [reader for reader in installed_readers if reader.engine == newest.name]
        if readers and readers[0].version:
            return readers
        version = newest.version
    elif not version[:1].isdecimal():
        message = f"--engine: {version!r} is not a version; for example: podman@4.9.3"
        raise UsageError(message, code="CDG-U003", subject="--engine")
    machine = NamedMachine(newest.name, version, ROOT.environment, 0, host_root)
    statuses = engines.engine(newest.name).statuses(machine)
    readers = [reader_of(status, ROOT) for status in statuses if not status.rootless]
    if user.uid == 0:
        return readers
    own = environment if _is_calling(user) else user.environment
    return readers + _of_user(
        NamedMachine(newest.name, version, own, user.uid, host_root), user, (newest.name,)
    )


def _is_calling(user: User) -> bool:
    """Whether this process runs as the user, and so has the user's environment."""
    import os  # noqa: PLC0415

    return os.geteuid() == user.uid


def _search_path(environment: Mapping[str, str]) -> str:
    return environment.get("PATH") or ":".join(USUAL_DIRECTORIES)


def _of_user(machine: Machine, user: User, names: Sequence[str]) -> list[Reader]:
    """The rootless engines of a user, whose files are read with the user's permissions."""
    readers = []
    for name in names:
        module = engines.engine(name)
        try:
            with acting_as(user):
                statuses = module.statuses(machine)
        except CdiGenError:
            continue  # the user may not read the own configuration: no engine starts with it
        readers += [reader_of(status, user) for status in statuses if status.rootless]
    return readers


def reader_of(status: EngineStatus, user: User) -> Reader:
    """The engine of a status as a reader of specs, with the permissions of a user."""
    library, drops_groups = None, False
    if status.version:
        try:
            consumer = consumers.find(f"{status.engine}@{status.version}")
            library = consumer.library
            drops_groups = consumer.additional_gids == "dropped"
        except consumers.UnknownConsumerError:
            pass
    return Reader(
        engine=status.engine,
        version=status.version,
        user=user,
        rootless=status.rootless,
        cdi=status.cdi,
        directories=status.spec_directories,
        source=status.source,
        library=library,
        newest_cdi_version=status.newest_cdi_version,
        drops_groups=drops_groups,
        findings=tuple(finding for finding in status.findings if finding.severity == "warning"),
    )
