# SPDX-License-Identifier: Apache-2.0
"""A driver is updated under running containers, and the spec stays the same.

The files of 535 are replaced by those of 550, as package managers do; then the tree is made again.
"""

from __future__ import annotations

import json
import posixpath
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import nvidia_ctk, specs
from tests.engine import machine as machines
from tests.engine.conftest import Engine
from tests.engine.expected import loadable
from tests.engine.machine import Machine
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.hosts import FakeHost
from tests.host import looking
from tests.lab import debian, driver_tree
from tests.lab.engines import Lab
from tests.lab.podman import Podman
from tests.lab.probe import Answers, answers, probe

pytestmark = [pytest.mark.engine, pytest.mark.host]

OLD, NEW = "535-bookworm", "550-debian"
GPU = ("--device", "nvidia.com/gpu=0")
TREE = "/usr/local/nvidia"
ENGINES = (
    Engine("bookworm", "runc", 0),
    Engine("trixie", "crun", 0),
    Engine("trixie", "runc", debian.USER),
    Engine("bookworm", "crun", debian.USER),
)

VERSIONED = ("libcuda.so.5", "libnvidia-ml.so.5", "libnvidia-ptxjitcompiler.so.5")

UPGRADE = r"""
find /usr /etc -xdev -name "*$1*" -prune -exec rm -rf {} +
tar -c -C /newer --files-from - | tar -x -C /
"""
"""Files of the old version are deleted, and each of the new driver's replaces that of its name."""


class Update:
    """A host with the old driver, the files of the new one, and an engine."""

    def __init__(self, machine: Machine, newer: FakeHost, engine: Engine) -> None:
        self.machine = machine
        self.newer = newer
        self.podman: Podman = machine.podman(engine.runtime, engine.user)
        self.new_inventory: dict[str, Any] = json.loads(
            looking.run("inventory", host_root=str(newer.root)).stdout
        )
        self.version, self.new_version = machine.fake.driver_version, newer.driver_version

    def make_tree(self, hooks: str, *, newer: bool = False) -> None:
        """Make the tree, as ``cdi-gen refresh`` does when libraries and module agree."""
        inventory = self.new_inventory if newer else self.machine.inventory
        driver_tree.make(self.machine.inside, json.dumps(inventory), hooks)

    def install(self) -> None:
        """Install the files of the newer driver, in place of those of the old one."""
        paths = []
        for file in (*self.new_inventory["libraries"], *self.new_inventory["files"]):
            folder = posixpath.dirname(file["path"])
            links = [f"{folder}/{name}" for name in file.get("links", ())]
            seen_at = [file["seenAt"]] if "seenAt" in file else []
            paths += [file["path"], *links, *file.get("aliases", ()), *seen_at]
        existing = [path.lstrip("/") for path in paths if (self.newer.root / path[1:]).exists()]
        command = ["sh", "-ec", UPGRADE, "sh", self.version]
        self.machine.inside.run(command, stdin="".join(f"{path}\n" for path in existing))

    def version_of(self, ask: Callable[..., Answers]) -> str:
        """The version of a container's driver, of which every library is one and can be loaded."""
        names = loadable(self.machine.inventory)
        found = ask(
            ("ls", f"{TREE}/lib64"), ("dlopen", *(n for n in names if self.version not in n))
        )
        versions = {
            name.partition(".so.")[2]
            for name in found["ls", f"{TREE}/lib64"]
            if name.startswith(VERSIONED)
        }
        assert len(versions) == 1, versions
        assert not [each for each in found.values() if each[0] == "fail"], found
        return versions.pop()

    def new_container(self, *questions: tuple[str, ...]) -> Answers:
        return self.podman.ask("debian", *questions, options=GPU)


@pytest.fixture(params=ENGINES, ids=str)
def update(
    request: pytest.FixtureRequest,
    lab_of: Callable[[str], Lab],
    host: Callable[[str], FakeHost],
    image_archives: dict[str, Path],
    tmp_path: Path,
) -> Iterator[Update]:
    engine: Engine = request.param
    newer = host(NEW)
    try:
        fake = machines.prepare(OLD, tmp_path / OLD)
    except DriverRootUnavailableError as error:
        pytest.skip(f"no fake host {OLD}: {error}")
    shown = {"/newer": newer.root}
    with machines.enter(lab_of(engine.suite), fake, image_archives["all"], shown=shown) as machine:
        yield Update(machine, newer, engine)
    shutil.rmtree(tmp_path / OLD)


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_the_same_spec_before_during_and_after_an_update(update: Update, mode: str) -> None:
    machine, podman = update.machine, update.podman
    machine.serve(nvidia=machine.generate("--form=tree", f"--hooks={mode}"))
    update.make_tree(mode)
    running = podman("run", "--detach", *GPU, "localhost/debian", *probe(("pause", "-")))
    container = running.stdout.strip()

    def running_container(*questions: tuple[str, ...]) -> Answers:
        return answers(podman("exec", container, *probe(*questions)).stdout)

    assert update.version_of(update.new_container) == update.version
    assert update.version_of(running_container) == update.version
    update.install()
    # The module is still the old one: containers get the files that fit it, although the package
    # manager has deleted them.
    assert update.version_of(update.new_container) == update.version
    assert update.version_of(running_container) == update.version
    update.make_tree(mode, newer=True)
    assert update.version_of(update.new_container) == update.new_version
    assert update.version_of(running_container) == update.version
    listed = machine.inside.run(["ls", "/run/cdi-gen/driver"]).stdout.split()
    assert len(listed) == 3, listed
    podman("rm", "--force", "--time", "0", container)
    mounts = machine.inside.run(["cat", "/proc/self/mountinfo"]).stdout
    assert update.version not in mounts


@pytest.mark.parametrize("spec", ["files", "nvidia-ctk"])
def test_a_spec_of_the_files_is_broken_by_an_update(
    update: Update, spec: str, nvidia_program: Callable[[str], Path]
) -> None:
    """The control."""
    machine = update.machine
    text = machine.generate("--hooks=none")
    if spec == "nvidia-ctk":
        program = str(nvidia_program("nvidia-ctk"))
        document = specs.without_hooks(nvidia_ctk.spec(program, machine.fake))
        for owner in (document, *document["devices"]):  # podman 4.3 takes no newer version
            owner["containerEdits"].pop("additionalGids", None)
        text = json.dumps({**document, "cdiVersion": "0.5.0"})
    machine.serve(nvidia=text)
    run = ("run", "--rm", *GPU, "localhost/debian", *probe(("env", "PATH")))
    update.podman(*run)
    update.install()
    ended = update.podman(*run, check=False)
    assert ended.returncode != 0
    assert update.version in ended.stderr
