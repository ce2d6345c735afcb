# SPDX-License-Identifier: Apache-2.0
"""Containers that are just being made: a bundle in a temporary folder, and the hook run on it as root."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HOOKS = Path(__file__).resolve().parents[2] / "hooks"
HOOK = HOOKS / "cdi-gen-hook"
PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC0"}
MACHINE = os.uname().machine
TRIPLET = f"{MACHINE}-linux-gnu"

FOLDERS = ("bin", "etc", "lib", "usr/lib", "proc", "sys", "dev", "tmp", "run", "opt/odd")


def fingerprint(folder: Path) -> dict[str, tuple[object, ...]]:
    """All there is to know of a tree: names, kinds, modes, owners, times, content."""
    known: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        known[str(path.relative_to(folder))] = (
            stat.filemode(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_ino,
            status.st_mtime_ns,
            status.st_ctime_ns,
            content,
        )
    return known


class Ended:
    """How a hook ended."""

    def __init__(self, process: subprocess.CompletedProcess[bytes], seconds: float) -> None:
        self.status = process.returncode
        self.stdout = process.stdout.decode()
        self.said = process.stderr.decode()
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"exit {self.status} after {self.seconds:.1f} s: {self.said!r}"


class Container:
    """A bundle and its root, and a folder of the host beside it that no hook may touch."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "bundle"
        self.root = self.bundle / "rootfs"
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True)
        (self.bundle / "config.json").write_text('{"root": {"path": "rootfs"}}')
        self.canary = folder / "canary"
        (self.canary / "dir").mkdir(parents=True)
        (self.canary / "file").write_text("untouched\n")
        (self.canary / "empty").touch()
        self.before = fingerprint(self.canary)
        self.launcher: list[str] = [str(HOOK)]
        self.within: list[str] = []

    def write(self, path: str, content: str | bytes = b"") -> Path:
        """Put a file of the image there."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def with_mounts(self, before: str, after: str = 'exit "$status"') -> None:
        """Run the hook in a mount namespace of its own, between two shell scripts."""
        run = f'cd {self.root}; status=0; env -u PWD -u OLDPWD "$@" || status=$?'
        self.within = ["unshare", "-m", "sh", "-ec", f"{before}\n{run}\n{after}", "sh"]

    def state(self) -> bytes:
        return json.dumps(
            {
                "ociVersion": "1.0.2",
                "id": "t",
                "status": "creating",
                "pid": 0,
                "bundle": str(self.bundle),
            }
        ).encode()

    def hook(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        environment: dict[str, str] | None = None,
        **more: object,
    ) -> Ended:
        """Run the hook as runc does: in the root of the container, with the host's root in sight."""
        begun = time.monotonic()
        process = subprocess.run(
            [*self.within, *self.launcher, *arguments],
            input=self.state() if stdin is None else stdin,
            capture_output=True,
            env=ENVIRONMENT if environment is None else environment,
            cwd=self.root,
            check=False,
            timeout=30,
            **more,  # type: ignore[call-overload]
        )
        ended = Ended(process, time.monotonic() - begun)
        assert len(process.stderr) <= 8192
        assert "Traceback" not in ended.said
        assert "internal error" not in ended.said
        return ended

    def altered(self, **settings: str) -> None:
        """Run a hook that differs in the given module attributes, as `process__SECONDS="1"`."""
        lines = [
            "import sys",
            "sys.dont_write_bytecode = True",
            f"sys.path.insert(0, {str(HOOKS)!r})",
            "from cdi_hook.__main__ import main",
            "from cdi_hook import ldcache, ldsoconf, process, resolve, sandbox, syscalls",
            *(f"{name.replace('__', '.', 1)} = {value}" for name, value in settings.items()),
            "main()",
        ]
        self.launcher = [PYTHON, "-IS", "-c", "\n".join(lines)]

    def assert_host_untouched(self) -> None:
        assert fingerprint(self.canary) == self.before

    def cached(self) -> dict[str, str]:
        """What the container's ld.so.cache holds: SONAME to path, as the loader would choose."""
        listing = subprocess.run(
            ["/sbin/ldconfig", "-p", "-C", self.root / "etc/ld.so.cache"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found: dict[str, str] = {}
        for line in listing.splitlines():
            name, arrow, path = line.strip().partition(" => ")
            if arrow:
                found.setdefault(name.split(" ")[0], path)
        return found


@pytest.fixture(scope="session", autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("a hook is run as root, and so are its tests")


@pytest.fixture
def container(tmp_path: Path) -> Container:
    tmp_path.chmod(0o755)
    return Container(tmp_path)


@pytest.fixture(params=["openat2", "walker"])
def both(request: pytest.FixtureRequest, container: Container) -> Container:
    """A container whose hook resolves paths by the kernel, and by hand."""
    if request.param == "walker":
        container.altered(resolve__choose="lambda root: resolve.by_walking")
    return container


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile C; each program once a session."""
    folder = tmp_path_factory.mktemp("compiled")
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")

    def compile_(name: str, source: str, *options: str) -> Path:
        made = folder / name
        if not made.exists():
            subprocess.run(
                ["cc", "-x", "c", "-", "-o", str(made), *options],
                input=source,
                text=True,
                check=True,
                capture_output=True,
            )
        return made

    return compile_


@pytest.fixture
def library(compiled: Callable[..., Path]) -> Callable[[Path, str], None]:
    """Put a small shared library with the given SONAME at a path."""

    def put(path: Path, soname: str) -> None:
        made = compiled(
            soname,
            "int answer(void){return 42;}",
            "-shared",
            "-fPIC",
            f"-Wl,-soname,{soname}",
            "-nostdlib",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, path)

    return put
