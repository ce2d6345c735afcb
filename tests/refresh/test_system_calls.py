# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen refresh` as a process that is killed in each of its system calls."""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.attack.faults import Call, calls, injection
from tests.cli.program import CHECKOUT, ENVIRONMENT
from tests.refresh.machine import Machine

PACKAGES = ("cdi_gen", "hooks/cdi_base", "hooks/cdi_hook", "specs/cdi_specs")
MEMORY = {"mmap", "munmap", "mremap", "brk", "madvise"}
"""Of these there may be one less: it depends on where the kernel puts things."""
LEFT = re.compile(r"\.cdi-gen-refresh-nvidia\.json\.tmp|\.refresh\.json\.tmp")
STATE = "/run/cdi-gen"


class Scene:
    """A copy of the program, and a machine whose GPU spec is written again in each run."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.library = machine.folder / "library"
        for name in PACKAGES:
            target = self.library / name.rpartition("/")[2]
            shutil.copytree(CHECKOUT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(self.library, quiet=1)
        self.run_directory = machine.folder / "run"
        self.run_directory.mkdir()
        assert self.run("--capabilities", "utility").returncode == 0
        self.old = self.specs()
        shutil.copytree(self.run_directory, machine.folder / "pristine")
        trace = machine.folder / "trace"
        assert self.run(strace=["-o", str(trace)]).returncode == 0
        self.new = self.specs()
        text = trace.read_text(errors="replace")
        # Before the record is read, nothing of ours has happened.
        before = text[: text.index("refresh.json")].count("\n")
        skipped = len(calls("\n".join(text.splitlines()[:before]), "execve"))
        self.calls = calls(text, "execve")[skipped:]

    def again(self) -> None:
        shutil.rmtree(self.run_directory)
        shutil.copytree(self.machine.folder / "pristine", self.run_directory)

    def run(
        self, *options: str, strace: list[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        traced = ["strace", "-f", "-qq", *strace] if strace else []
        words = ["refresh", "--host-root", str(self.machine.root), "--mode", "auto", *options]
        mounted = f'mount --bind {self.run_directory} /run; exec "$@"'
        return subprocess.run(
            ["unshare", "--mount", "sh", "-euc", mounted, "sh", *traced, sys.executable, "-m", "cdi_gen", *words],
            env=ENVIRONMENT | {"PYTHONPATH": str(self.library), "PYTHONHASHSEED": "0"},
            cwd=self.library, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def kill(self, call: Call) -> subprocess.CompletedProcess[str]:
        self.again()
        return self.run(
            strace=["-o", "/dev/null", *injection(call.name, f"signal=KILL:when={call.number}")]
        )

    def specs(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.run_directory / "cdi").iterdir()}

    def litter(self) -> set[str]:
        names = {
            path.name
            for name in ("cdi", "cdi-gen")
            for path in (self.run_directory / name).iterdir()
        }
        return names - {"nvidia.json", "refresh-result.json", "refresh.json", "refresh.lock"}


@pytest.fixture
def scene(machine: Callable[[str], Machine]) -> Scene:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    return Scene(machine("550-flat"))


@pytest.mark.parametrize(
    ("step", "last", "last_step"),
    [(97, 30, 3), pytest.param(11, 200, 1, marks=pytest.mark.nightly)],
    ids=["some", "many"],
)
def test_killed_in_a_system_call(scene: Scene, step: int, last: int, last_step: int) -> None:
    """Some of the calls that only read, and more of the last ones, which write."""
    assert scene.old.keys() == scene.new.keys() == {"nvidia.json"}
    assert scene.old != scene.new
    chosen = scene.calls[:-last:step] + scene.calls[-last::last_step]
    ends = []
    for call in chosen:
        done = scene.kill(call)
        if call.name in MEMORY and done.returncode == 0:
            continue
        assert done.returncode == -9, (call, done)
        specs = {name: text for name, text in scene.specs().items() if not name.startswith(".")}
        assert specs in (scene.old, scene.new), call
        ends.append(specs == scene.new)
        assert all(LEFT.fullmatch(name) for name in scene.litter()), call
        assert scene.run().returncode == 0
        assert scene.specs() == scene.new, call
        assert scene.litter() == set(), call
    assert {*ends} == {True, False}
