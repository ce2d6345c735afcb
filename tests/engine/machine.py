# SPDX-License-Identifier: Apache-2.0
"""A fake GPU host with cdi-gen's hook installed, entered with the engines of a Debian suite.

The spec is what the command line writes for that host, at the place where engines look for it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tests.engine import expected
from tests.fakehost import hosts
from tests.fakehost.gpus import Gpu
from tests.fakehost.hosts import FakeHost
from tests.host import looking
from tests.lab import driver_tree
from tests.lab.engines import Inside, Lab, Started
from tests.lab.podman import Podman
from tests.lab.probe import Answers

HOOK = "/usr/libexec/cdi-gen/cdi-gen-hook"
NVML_TEXT = "/nvml-mock.host"

NVIDIA_SMI = (
    *("--env", f"NVML_MOCK_HOST={NVML_TEXT}"),
    *("--volume", f"/opt{NVML_TEXT}:{NVML_TEXT}:ro"),
)
"""Options of podman that let nvidia-smi know of the host's GPUs."""


def prepare(name: str, folder: Path) -> FakeHost:
    """Lay out a fake host with the hook program, as its package would install it.

    Raises:
        DriverRootUnavailableError: its driver cannot be had on this machine.
    """
    fake = hosts.build(name, folder)
    (fake.root / "usr/bin").mkdir(parents=True, exist_ok=True)
    # Inside, the suite's own interpreter takes its place; it is looked at when a spec names the hook.
    (fake.root / "usr/bin/python3").touch(mode=0o755)
    looking.run("hook", "install", "--prefix", "/usr", root=str(fake.root))
    (fake.root / "opt").mkdir(exist_ok=True)
    shutil.copy(fake.nvml.with_name("nvml-mock.host"), f"{fake.root}/opt{NVML_TEXT}")
    if not looking.needs_nvml(fake):  # where it is needed, the host's nodes are not this machine's
        _compile_nvml(fake.nvml)
    return fake


def _compile_nvml(library: Path) -> None:
    """NVML for any glibc: it names libc.so.6, like the real one, and no version of its symbols."""
    source = Path(__file__).with_name("nvml_by_node.c")
    command = ["cc", "-shared", "-nostdlib", "-fPIC", "-O1", "-Wall", "-Wextra"]
    library.unlink()
    with tempfile.TemporaryDirectory() as folder:
        libc = f"{folder}/libc.so.6"
        empty = ("-x", "c", "/dev/null")
        subprocess.run([*command, "-Wl,-soname,libc.so.6", "-o", libc, *empty], check=True)
        named = ("-Wl,-soname,libnvidia-ml.so.1", "-Wl,--no-as-needed")
        subprocess.run([*command, *named, "-o", str(library), str(source), libc], check=True)


@contextlib.contextmanager
def enter(
    lab: Lab,
    fake: FakeHost,
    images: Path,
    *,
    shown: Mapping[str, Path] | None = None,
    cgroup: Literal["v1", "v2"] | None = None,
) -> Iterator[Machine]:
    """Enter a prepared host; ``shown`` are more files to see inside."""
    binds = {"/images.tar": images, **driver_tree.BINDS, **(shown or {})}
    if fake.driver_root != fake.root:  # below /run, which is a file system of its own
        place = looking.driver_root_of(fake)
        binds[place] = fake.driver_root
    with lab.enter(under=[fake.root], dev_from=fake.root, binds=binds, cgroup=cgroup) as inside:
        # What a package does when it is installed: the hook never writes its own bytecode.
        inside.run(["python3", "-I", "-S", "-m", "compileall", "-q", "-f", HOOK.rpartition("/")[0]])
        yield Machine(fake, inside)


class Machine:
    """An entered host."""

    def __init__(self, fake: FakeHost, inside: Inside) -> None:
        self.fake = fake
        self.inside = inside
        self._served: dict[str, str] = {}

    def __hash__(self) -> int:
        return id(self)

    @functools.cached_property
    def inventory(self) -> dict[str, Any]:
        """What ``cdi-gen inventory`` says of the host."""
        inventory: dict[str, Any] = json.loads(self._host)
        return inventory

    @functools.cache  # noqa: B019 - a machine lives as long as the session
    def generate(self, *options: str) -> str:
        """What ``cdi-gen generate`` prints for the host."""
        return self._look("generate", *options)

    def generate_now(self, *options: str) -> str:
        """The same for the host as it is now."""
        return self._look("generate", *options)

    @contextlib.contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Take nodes or folders out of the host's /dev for a while, within and without."""
        aside = "/dev/.aside"
        root = str(self.fake.root)
        pairs = [(f"/dev/{name}", f"{aside}/{number}") for number, name in enumerate(names)]
        self.inside.run(["mkdir", aside])
        Path(root + aside).mkdir()
        for name, place in pairs:
            self.inside.run(["mv", name, place])
            Path(root + name).rename(root + place)
        try:
            yield
        finally:
            for name, place in pairs:
                self.inside.run(["mv", place, name])
                Path(root + place).rename(root + name)
            self.inside.run(["rmdir", aside])
            Path(root + aside).rmdir()

    def _look(self, command: str, *options: str) -> str:
        return looking.run(
            command,
            *options,
            host_root=str(self.fake.root),
            driver_root=looking.driver_root_of(self.fake),
            nvidia_cdi_hook_path=HOOK,
        ).stdout

    def make_tree(self, hooks: str) -> str:
        """Make the driver tree of the host, for specs with these hooks; return its path."""
        return driver_tree.make(self.inside, self._host, hooks)

    def alternate_trees(self, log: str) -> Started:
        """Start to replace the driver tree by another one again and again."""
        return driver_tree.alternate(self.inside, self._host, log)

    @functools.cached_property
    def _host(self) -> str:
        return self._look("inventory")

    def serve(self, **specs: str) -> None:
        """Make these specs, by name, all that engines find."""
        files = {f"/etc/cdi/{name}.{_extension(text)}": text for name, text in specs.items()}
        for path in self._served.keys() - files:
            self.inside.run(["rm", path])
        for path, text in files.items():
            if self._served.get(path) != text:
                self.inside.write(path, text)
        self._served = files

    @functools.cache  # noqa: B019
    def podman(self, runtime: str, user: int) -> Podman:
        """Podman with the lab's images."""
        podman = Podman(self.inside, runtime=runtime, user=user)
        if not podman("images", "--quiet").stdout:
            podman.load("/images.tar")
        return podman

    @functools.cache  # noqa: B019
    def load(self, podman: Podman, image: str) -> None:
        """Load an image of the zoo, where the machine was entered with it."""
        podman.load(f"/zoo/{image}.tar")

    @functools.cache  # noqa: B019
    def usual_nodes(self, podman: Podman) -> frozenset[str]:
        """The device nodes of a container that was given none."""
        return frozenset(expected.nodes(podman.ask("distroless", ("find", "/dev"))))

    def gpu(self, index: int) -> Gpu:
        """A GPU of the host by index."""
        return self.fake.kernel.gpus[index]

    def added_nodes(self, podman: Podman, answers: Answers) -> dict[str, tuple[int, int]]:
        """The device nodes in the answers to ``find /dev`` that a container has not anyway."""
        usual = self.usual_nodes(podman)
        return {path: it for path, it in expected.nodes(answers).items() if path not in usual}


def _extension(text: str) -> str:
    return "json" if text.startswith("{") else "yaml"
