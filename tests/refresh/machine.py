# SPDX-License-Identifier: Apache-2.0
"""A machine whose specs are refreshed and checked: a fake host, a spec directory and a record.

Each call runs in a fork, because NVML stays loaded in a process and each fake host has its own.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cdi_gen.errors import CdiGenError
from cdi_gen.refresh import check, freshness, record, update
from cdi_gen.refresh.settings import Layout, Request, Settings
from tests.fakehost.hosts import FakeHost
from tests.fakehost.layouts import MULTIARCH, ldconfig

Value = TypeVar("Value")


class Refreshed(NamedTuple):
    """How a refresh ended."""

    code: int
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    message: str = ""
    """Of the error."""


class Machine:
    """A fake host with the directories of a refresh."""

    def __init__(self, folder: Path, fake: FakeHost) -> None:
        self.folder = folder
        self.fake = fake
        self.root = fake.root
        self.driver_root = "/"
        self.specs = folder / "specs"
        self.state = folder / "state"
        self.gpus = self.specs / "nvidia.json"
        self.capabilities = self.specs / "nvidia-cap.json"

    def request(self, **settings: Any) -> Request:
        chosen = Settings(output_directory=str(self.specs))._replace(**settings)
        return Request(chosen, self.layout)

    @property
    def layout(self) -> Layout:
        """The fake host is the root of the host."""
        return Layout(driver_root=self.driver_root, host_root=str(self.root))

    def refresh(self, *, force: bool = False, **settings: Any) -> Refreshed:
        """Refresh in a process of its own."""
        return in_fork(lambda: self.refresh_here(force=force, **settings))

    def refresh_here(self, *, force: bool = False, **settings: Any) -> Refreshed:
        """Refresh in this process."""
        update.SPEC_DIRECTORIES = (str(self.folder / "etc-cdi"), str(self.specs))  # type: ignore[attr-defined]
        try:
            outcome = update.refresh(
                self.request(**settings), force=force, state_directory=str(self.state)
            )
        except CdiGenError as error:
            return Refreshed(error.exit_code, message=error.message)
        return Refreshed(
            outcome.exit_code,
            tuple(Path(new.path).name for new in outcome.written),
            tuple(Path(path).name for path in outcome.removed),
            tuple(Path(path).name for path in outcome.foreign),
        )

    def check(self, *directories: Path) -> list[str]:
        """The differences that a check prints."""
        return self.report(*directories)[1]

    def check_here(self) -> list[str]:
        """The differences, found in this process."""
        return self._report(())[1]

    def report(self, *directories: Path) -> tuple[int, list[str], list[str]]:
        """The exit code of a check, its differences and its notes."""
        return in_fork(lambda: self._report(tuple(map(str, directories))))

    def _report(self, directories: tuple[str, ...]) -> tuple[int, list[str], list[str]]:
        check.SPEC_DIRECTORIES = (str(self.folder / "etc-cdi"), str(self.specs))  # type: ignore[attr-defined]
        found = check.check(self.layout, directories, str(self.state))
        differences = [f"{each.message} [{each.code}]" for each in found.differences]
        notes = [f"{each.message} [{each.code}]" for each in found.notes]
        return int(found.exit_code), differences, notes

    def own_copy(self, pattern: str) -> Path:
        """Replace a file, which is a hard link into the cache, by a copy; return its path."""
        path = next(self.root.glob(pattern))
        copy = path.with_name(f"{path.name}.copy")
        shutil.copy2(path, copy)
        return copy.replace(path)

    def contents(self) -> dict[str, bytes]:
        """Everything in the spec directory, by name."""
        if not self.specs.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.specs.iterdir()}

    def is_fast(self) -> bool:
        """Whether a refresh would see by attributes alone that nothing has changed."""
        last = record.load(str(self.state))
        return last is not None and freshness.is_host_unchanged(last, self.layout.prefix)


def in_fork(function: Callable[[], Value], patience: int = 60) -> Value:
    """The value of a function that is called in a fork of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(patience)
        try:
            result = pickle.dumps(function())
        except BaseException as error:  # noqa: BLE001 - raised again by the parent
            result = pickle.dumps(error)
        with open(writing, "wb") as pipe:
            pipe.write(result)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if not content:
        raise KilledError(os.waitstatus_to_exitcode(status))
    value: Value | BaseException = pickle.loads(content)
    if isinstance(value, BaseException):
        raise value
    return value


class KilledError(Exception):
    """The fork ended without a value."""


class DriverUpdate:
    """The installation of another driver on a machine, in the order of package managers."""

    def __init__(self, machine: Machine, new: FakeHost) -> None:
        self._machine = machine
        self._new = new

    def install_libraries(self, *stems: str) -> None:
        """Replace libraries, all or those with these stems, as a package does; run ldconfig."""
        for architecture in MULTIARCH:
            directory = self._machine.root / "usr/lib" / architecture
            new_directory = self._new.root / "usr/lib" / architecture
            if not new_directory.is_dir():
                continue
            for path in sorted(new_directory.iterdir()):
                stem = path.name.partition(".so")[0]
                if not path.is_dir() and (stem in stems or not stems):
                    _replace(path, directory)
        ldconfig(self._machine.root)

    def remove_old_libraries(self, *stems: str) -> None:
        """Remove the files of the old driver, all or those with these stems; run ldconfig."""
        version = self._machine.fake.driver_version
        for path in self._machine.root.rglob(f"*.so.{version}"):
            if path.name.partition(".so")[0] in stems or not stems:
                path.unlink()
        ldconfig(self._machine.root)

    def install_files(self) -> None:
        """Replace programs and data files; run ldconfig."""
        for name in ("usr/bin", "usr/share", "usr/lib/firmware", "etc"):
            if (self._new.root / name).is_dir():
                _copy(f"{self._new.root / name}/.", self._machine.root / name)
        ldconfig(self._machine.root)

    def unload_module(self) -> None:
        """Unload the kernel module: procfs and sysfs have nothing of it."""
        shutil.rmtree(self._machine.root / "proc/driver")
        for module in (self._machine.root / "sys/module").glob("nvidia*"):
            shutil.rmtree(module)

    def load_module(self) -> None:
        """Load the new kernel module: procfs, sysfs and nodes are those of the new host."""
        for name in ("proc", "sys", "dev"):
            shutil.rmtree(self._machine.root / name, ignore_errors=True)
            _copy(str(self._new.root / name), self._machine.root / name)


def _copy(source: str, target: Path) -> None:
    """Copy a tree with its device nodes; files are replaced, not written to."""
    subprocess.run(["cp", "-a", "--remove-destination", source, str(target)], check=True)


def _replace(path: Path, directory: Path) -> None:
    """As dpkg: a new file under another name, which is then renamed.

    A hard link: no test writes to a library, and a copy of a driver has more than a gigabyte.
    """
    directory.mkdir(parents=True, exist_ok=True)
    new = directory / f"{path.name}.dpkg-new"
    os.link(path, new, follow_symlinks=False)
    new.replace(directory / path.name)
