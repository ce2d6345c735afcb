# SPDX-License-Identifier: Apache-2.0
"""Fixtures for containers that a runtime is creating: a bundle in a temporary directory, and the hook, run as root."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hook.roots import open_below
from tests.hook.runtimes import ENVIRONMENT, Runtime, hook_of

__all__ = ["ENVIRONMENT"]

HOOKS = Path(__file__).resolve().parents[2] / "hooks"
HOOK = HOOKS / "cdi-gen-hook"
PYTHON = os.environ.get("CDI_GEN_HOOK_PYTHON", "/usr/bin/python3")
"""The interpreter of the hook; noxfile.py runs the tests with every supported version."""
BUNDLED = shlex.split(os.environ.get("CDI_GEN_HOOK", ""))
"""The command that starts the hook of a bundle with its own interpreter; tests/packaging/test_bundle.py."""
MACHINE = os.uname().machine
TRIPLET = f"{MACHINE}-linux-gnu"

Library = Callable[[Path, str], None]

FOLDERS = ("bin", "etc", "lib", "usr/lib", "proc", "sys", "dev", "tmp", "run", "opt/odd")


def fingerprint(folder: Path) -> dict[str, tuple[object, ...]]:
    """All attributes of a tree: names, kinds, modes, owners, times, content."""
    attributes: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        attributes[str(path.relative_to(folder))] = (
            stat.filemode(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_ino,
            status.st_mtime_ns,
            status.st_ctime_ns,
            content,
        )
    return attributes


class Ended:
    """The result of a hook's run."""

    def __init__(self, process: subprocess.CompletedProcess[bytes], seconds: float) -> None:
        self.status = process.returncode
        self.stdout = process.stdout.decode()
        self.said = process.stderr.decode()
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"exit {self.status} after {self.seconds:.1f} s: {self.said!r}"


def wait_for_handler(hook: subprocess.Popen[Any], number: int) -> None:
    """Wait until a process has become the hook, and has a handler for a signal."""
    end = time.monotonic() + 60
    while not _catches(hook.pid, number):
        assert hook.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)


def _catches(process: int, number: int) -> bool:
    if not Path(f"/proc/{process}/cmdline").read_bytes().startswith(os.fsencode(PYTHON)):
        return False
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


class Container:
    """A bundle with its root, and a directory of the host beside it that the hook must not change."""

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
        own_interpreter = PYTHON == "/usr/bin/python3"
        self.launcher = [str(HOOK)] if own_interpreter else [PYTHON, "-IS", str(HOOK)]
        if BUNDLED:
            self.launcher = BUNDLED
        self.within: list[str] = []
        self.spec: dict[str, Any] = {}
        """The changes of config.json before a runtime starts."""

    def write(self, path: str, content: str | bytes = b"") -> Path:
        """Write a file of the image."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def with_mounts(self, before: str, after: str = 'exit "$status"') -> None:
        """Run the hook in its own mount namespace, between two shell scripts."""
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
        **more: Any,
    ) -> Ended:
        """Run the hook as runc does: in the container's root directory, with the host's files accessible."""
        begun = time.monotonic()
        process = subprocess.run(
            [*self.within, *self.launcher, *arguments],
            input=self.state() if stdin is None else stdin,
            capture_output=True,
            env=ENVIRONMENT if environment is None else environment,
            cwd=self.root,
            check=False,
            timeout=30,
            **more,
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
            "from cdi_base import files, process, syscalls",
            "from cdi_base.rootfs import resolve, rootfs",
            "from cdi_hook.steps import disable_device_node_modification as device_nodes",
            *(f"{name.replace('__', '.', 1)} = {value}" for name, value in settings.items()),
            "main()",
        ]
        self.launcher = [PYTHON, "-IS", "-c", "\n".join(lines)]

    def assert_host_untouched(self) -> None:
        assert fingerprint(self.canary) == self.before

    def cached(self) -> dict[str, str]:
        """The container's ld.so.cache: by SONAME, the path that the loader would choose."""
        listing = subprocess.run(
            ["/sbin/ldconfig", "-p", "-C", self.root / "etc/ld.so.cache"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        paths: dict[str, str] = {}
        for line in listing.splitlines():
            name, arrow, path = line.strip().partition(" => ")
            if arrow:
                paths.setdefault(name.split(" ")[0], path)
        return paths


@pytest.fixture(scope="session", autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("a hook is run as root, and so are its tests")


@pytest.fixture(autouse=True)
def _no_directory_stays_open() -> Iterator[None]:
    """Close the directories that a test has opened: those of a hook are closed when its process ends.

    A process that runs all tests of hooks would have more than a thousand of them.
    """
    temporary = Path(tempfile.gettempdir())
    before = open_below(temporary)
    yield
    for descriptor in open_below(temporary).keys() - before.keys():
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    tmp_path.chmod(0o755)
    return Container(tmp_path)


@pytest.fixture(params=["openat2", "walker"])
def both(request: pytest.FixtureRequest, container: Container) -> Container:
    """A container whose hook resolves paths with openat2(2), and one whose hook walks them."""
    if request.param == "walker":
        container.altered(resolve__choose="lambda root: resolve.by_walking")
    return container


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile a C program, once in a session."""
    folder = tmp_path_factory.mktemp("compiled")
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")

    def compile_(name: str, source: str, *options: str) -> Path:
        program = folder / name
        if not program.exists():
            subprocess.run(
                ["cc", "-x", "c", "-", "-o", str(program), *options],
                input=source,
                text=True,
                check=True,
                capture_output=True,
            )
        return program

    return compile_


@pytest.fixture
def library(compiled: Callable[..., Path]) -> Library:
    """Put a small shared library with the given SONAME at a path."""

    def put(path: Path, soname: str) -> None:
        compiled_library = compiled(
            soname,
            "int answer(void){return 42;}",
            "-shared",
            "-fPIC",
            f"-Wl,-soname,{soname}",
            "-nostdlib",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(compiled_library, path)

    return put


PROGRAM = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    int found = 0;
    for (int i = 1; i < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW);
        int (*answer)(void) = library ? (int (*)(void))dlsym(library, "answer") : 0;
        printf("%s=%d\n", argv[i], answer ? answer() : -1);
        found += library != 0;
    }
    return found != argc - 1;
}
"""


@pytest.fixture
def image(container: Container, compiled: Callable[..., Path], library: Library) -> Container:
    """A root with a dynamic program, its libraries and its loader, and the host's ldconfig."""
    program = compiled("loads", PROGRAM, "-ldl")
    shutil.copy(program, container.root / "bin/loads")
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+)", listing):
        target = container.root / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
    library(container.root / "usr/lib/odder/libnvidia-ml.so.1", "libnvidia-ml.so.1")
    return container


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return Runtime(request.param)


@pytest.fixture
def bundle(container: Container, library: Library) -> Container:
    """A bundle with busybox, and a driver library that is mounted as by a CDI spec."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs a static busybox")
    shutil.copy(busybox, container.root / "bin/busybox")
    (container.root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    driver = container.bundle / "driver/libcuda.so.550.1"
    library(driver, "libcuda.so.1")
    driver.chmod(0o644)
    container.bundle.chmod(0o755)
    (container.bundle / "config.json").unlink()
    subprocess.run(["runc", "spec"], cwd=container.bundle, check=True)
    spec = json.loads((container.bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["/bin/busybox", "true"]}
    spec["process"].pop("rlimits", None)
    spec["root"]["readonly"] = False
    spec["linux"].pop("resources", None)
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "cgroup"]
    spec["mounts"] = [m for m in spec["mounts"] if m["type"] != "cgroup"]
    spec["mounts"].append(
        {
            "destination": "/opt/odd/libcuda.so.550.1",
            "type": "bind",
            "source": str(driver),
            "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
        }
    )
    words = ("--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1", "--folder", "/opt/odd")
    spec["hooks"] = {"createContainer": [hook_of(container, "create-container", *words)]}
    container.spec = spec
    return container
