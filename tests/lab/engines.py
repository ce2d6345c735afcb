# SPDX-License-Identifier: Apache-2.0
"""Real container engines for tests: a Debian root entered as if it were a machine.

    lab = Lab("trixie")
    with lab.enter(under=[host], dev_from=host, binds={"/images.tar": archive}) as inside:
        inside.run(["podman", "load", "-q", "-i", "/images.tar"])
        inside.write("/etc/cdi/nvidia.json", spec)
        print(inside.run(["podman", "run", "--rm", "--device", "nvidia.com/gpu=all", ...]).stdout)

Inside, the root lies under an overlay in memory: a lab may be spoiled at will, two may run at
once, and all that was started in one ends with its ``with``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from tests.lab import cache, debian
from tests.lab.cache import LabUnavailableError

__all__ = ["CommandFailed", "Device", "Inside", "Lab", "LabError", "LabUnavailableError"]

StrPath = str | os.PathLike[str]
Layer = StrPath | tuple[StrPath, str]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LabError(Exception):
    """The lab was asked for something that cannot be: a folder that is not there, say."""


class CommandFailed(subprocess.CalledProcessError):
    """A command in the lab failed; the message has all that it printed."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stdout}{self.stderr}"


class Device(NamedTuple):
    """A character device node in the lab's private /dev; no driver need stand behind it."""

    path: str
    major: int
    minor: int
    mode: int = 0o666


class Lab:
    """A Debian suite's engines.

    Raises:
        LabUnavailableError: this machine cannot have it; the message says why.
    """

    def __init__(self, suite: str, root: Path | None = None) -> None:
        """Have the root of ``suite``, or ``root``, which a message calls ``suite``."""
        cache.require_root()
        self.suite = suite
        self.root = root or debian.root(suite)

    @contextlib.contextmanager
    def enter(
        self,
        *,
        layers: Sequence[Layer] = (),
        under: Sequence[StrPath] = (),
        binds: Mapping[str, StrPath] | None = None,
        writable: Mapping[str, StrPath] | None = None,
        devices: Sequence[Device] = (),
        dev_from: StrPath | None = None,
        cgroup: Literal["v1", "v2"] | None = None,
    ) -> Iterator[Inside]:
        """Enter the lab; leaving ends every process in it.

        Args:
            layers: folders laid over the root, each over those before it; a pair
                ``(folder, "/usr")`` lays the folder over /usr of the root only.
            under: folders laid under the root, visible where the root has no file: this gives the
                driver of a fake host to engines of another suite. The libraries of these folders
                are not in the root's ld.so.cache until ldconfig runs inside the lab.
            binds: by path in the lab, a folder or file of the machine that is mounted read-only
                there. A path under /proc or /sys works and hides its nearest existing parent;
                with a path under /proc the kernel refuses rootless containers their own /proc.
            writable: the same, mounted read-write.
            devices: nodes for the lab's /dev, in addition to the usual ones.
            dev_from: a folder whose ``dev`` has nodes and symlinks to copy into the lab's /dev.
            cgroup: the control group version seen inside; v1 where the machine has it, because
                a hybrid machine's v2 tree lacks the controllers that engines want.

        Raises:
            LabError: a folder is not there, or does not fit.
        """
        plan = {
            "root": str(self.root),
            "scratch": str(_scratch()),
            "user": debian.USER,
            "layers": [self._layer(layer) for layer in layers],
            "under": [self._fitting(_real(folder)) for folder in under],
            "binds": [
                (_real(shown), inside, may_write)
                for views, may_write in ((binds, False), (writable, True))
                for inside, shown in (views or {}).items()
            ],
            "devices": list(devices),
            "dev_from": dev_from and os.path.join(_real(dev_from), "dev"),
            "cgroup": cgroup or _cgroup_version(),
        }
        door = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.join(os.path.dirname(__file__), "enter.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupted test must still leave through the door
        )
        with door:
            assert door.stdin is not None
            assert door.stdout is not None
            init = _exchange(door.stdin, door.stdout, plan)["init"]
            yield Inside(door.stdin, door.stdout, init)

    def run(
        self,
        argv: Sequence[str],
        *,
        layers: Sequence[Layer] = (),
        under: Sequence[StrPath] = (),
        binds: Mapping[str, StrPath] | None = None,
        writable: Mapping[str, StrPath] | None = None,
        devices: Sequence[Device] = (),
        dev_from: StrPath | None = None,
        cgroup: Literal["v1", "v2"] | None = None,
        user: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: str = "",
        timeout: float = 120,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Enter, run one command, leave: see ``enter`` and ``Inside.run``."""
        with self.enter(
            layers=layers,
            under=under,
            binds=binds,
            writable=writable,
            devices=devices,
            dev_from=dev_from,
            cgroup=cgroup,
        ) as inside:
            return inside.run(
                argv, user=user, env=env, cwd=cwd, stdin=stdin, timeout=timeout, check=check
            )

    def _layer(self, layer: Layer) -> tuple[str, str]:
        folder, at = layer if isinstance(layer, tuple) else (layer, "/")
        source = _real(folder)
        place = os.path.join(self.root, at.lstrip("/"))
        if os.path.realpath(place) != os.path.normpath(place):
            raise LabError(f"{at} is a symlink in the {self.suite} root: lay over its target")
        return self._fitting(source) if at == "/" else source, at

    def _fitting(self, folder: str) -> str:
        """Refuse a folder with a real /lib, say, where the root has a symlink: one hides the other."""
        for link in (entry for entry in self.root.iterdir() if entry.is_symlink()):
            there = Path(folder, link.name)
            if there.is_dir() and not there.is_symlink():
                raise LabError(
                    f"{there} is a folder, but /{link.name} is a symlink in the {self.suite} root: "
                    f"lay it over /{link.readlink()} instead"
                )
        return folder


class Inside:
    """An entered lab; threads may share it.

    Attributes:
        init: the machine's process id of the lab's process 1. ``/proc/INIT/root`` is the lab's ``/``.
    """

    def __init__(self, to_server: IO[str], from_server: IO[str], init: int) -> None:
        self.init = init
        self._to_server = to_server
        self._from_server = from_server
        self._lock = threading.Lock()

    def run(
        self,
        argv: Sequence[str],
        *,
        user: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: str = "",
        timeout: float = 120,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as ``subprocess.run`` does, with all output captured.

        Args:
            argv: the program and its arguments.
            user: the user and group id; ``debian.USER`` can run rootless containers.
            env: added to a small clean environment.
            cwd: the folder inside in which to start.
            stdin: its standard input.
            timeout: seconds, after which the command and its session are killed.
            check: whether an exit status other than 0 raises.

        Raises:
            CommandFailed: it exited with another status than 0, and ``check`` is set.
            subprocess.TimeoutExpired: it took too long.
            LabError: there is no such program.
        """
        request = _command(argv, user, env, cwd) | {"input": stdin, "timeout": timeout}
        reply = self._ask(request)
        if reply["overdue"]:
            raise subprocess.TimeoutExpired(argv, timeout, reply["stdout"], reply["stderr"])
        if check and reply["returncode"] != 0:
            raise CommandFailed(reply["returncode"], argv, reply["stdout"], reply["stderr"])
        return subprocess.CompletedProcess(
            list(argv), reply["returncode"], reply["stdout"], reply["stderr"]
        )

    def start(
        self,
        argv: Sequence[str],
        *,
        log: str,
        user: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> Started:
        """Start a command and leave it running; it ends with the lab, if not before.

        Args:
            argv: the program and its arguments.
            log: a file inside, to which its standard output and error are added.
            user: the user and group id.
            env: added to a small clean environment.
            cwd: the folder inside in which to start.

        Raises:
            LabError: there is no such program.
        """
        request = _command(argv, user, env, cwd) | {"log": log}
        return Started(self._ask, self._ask(request)["pid"])

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file inside, and make its folder."""
        script = 'mkdir -p "${1%/*}/" && cat > "$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "sh", path, f"{mode:o}"], stdin=text)

    def read(self, path: str) -> str:
        """The text of a file inside."""
        return self.run(["cat", path]).stdout

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            return _exchange(self._to_server, self._from_server, request)


class Started:
    """A command that was left running in the lab.

    Attributes:
        pid: its process id inside.
    """

    def __init__(self, ask: Callable[[dict[str, Any]], dict[str, Any]], pid: int) -> None:
        self._ask = ask
        self.pid = pid

    def signal(self, number: int) -> None:
        """Send a signal; no error if the process has ended."""
        self._ask({"pid": self.pid, "signal": int(number)})

    def returncode(self) -> int | None:
        """Return how the process ended, as ``subprocess.Popen`` says it; None while it runs."""
        status: int | None = self._ask({"pid": self.pid})["returncode"]
        return status


def _command(
    argv: Sequence[str], user: int, env: Mapping[str, str] | None, cwd: str
) -> dict[str, Any]:
    home = {"HOME": "/root", "USER": "root"}
    if user:
        home = {"HOME": "/home/user", "USER": "user", "XDG_RUNTIME_DIR": f"/run/user/{user}"}
    environment = {
        "PATH": _PATH,
        "LC_ALL": "C.UTF-8",
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        **home,
        **(env or {}),
    }
    return {"argv": list(argv), "user": user, "env": environment, "cwd": cwd}


def _exchange(to_server: IO[str], from_server: IO[str], message: dict[str, Any]) -> dict[str, Any]:
    to_server.write(json.dumps(message) + "\n")
    to_server.flush()
    line = from_server.readline()
    if not line:
        raise LabError("the lab ended before its time; see its standard error")
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        raise LabError(reply["error"])
    return reply


def _real(path: StrPath) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise LabError(f"cannot be shown in the lab: {error}") from None


def _scratch() -> Path:
    """An empty folder, only ever a mount point in private namespaces."""
    folder = cache.home() / "scratch"
    folder.mkdir(exist_ok=True)
    return folder


def _cgroup_version() -> Literal["v1", "v2"]:
    controllers = Path("/proc/self/cgroup").read_text("ascii")
    return "v1" if ":memory:" in controllers else "v2"
