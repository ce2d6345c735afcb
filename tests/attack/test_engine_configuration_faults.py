# SPDX-License-Identifier: Apache-2.0
"""A kill and an error in each system call of `engine configure`: the file is old or new (A47, A48)."""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.faults import Call, calls, injection
from tests.cli.program import CHECKOUT, ENVIRONMENT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


OLD = '{"debug": true}\n'
NEW = '{"debug": true, "features": {"cdi": true}}\n'
LEFT = re.compile(r"\.cdi-gen-[0-9a-f]{16}\.tmp")


class Scene:
    """A copy of the program, which nobody changes meanwhile, and a file for it to configure."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "library"
        for name in (
            "cdi_gen",
            "hooks/cdi_base",
            "hooks/cdi_hook",
            "hooks/cdi_runtime",
            "specs/cdi_specs",
        ):
            target = self.library / name.rpartition("/")[2]
            shutil.copytree(CHECKOUT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(self.library, quiet=1)
        self.etc = folder / "etc"
        self.path = self.etc / "daemon.json"
        self.trace = folder / "trace"
        self.again()
        done = self.run("-o", str(self.trace))
        assert done.returncode == 0, done
        assert self.path.read_text() == NEW
        trace = self.trace.read_text(errors="replace")
        # Of those before, the interpreter's; and strace counts each name from the first call on.
        before = trace[: trace.index(str(self.path), trace.index("\n"))].count("\n")
        counted = calls(trace, "execve")
        skipped = len(calls("\n".join(trace.splitlines()[:before]), "execve"))
        self.calls = counted[skipped:]

    def again(self) -> None:
        shutil.rmtree(self.etc, ignore_errors=True)
        self.etc.mkdir()
        self.path.write_text(OLD)
        self.path.chmod(0o640)

    def run(self, *strace: str) -> subprocess.CompletedProcess[str]:
        """Under strace with these options, or without it."""
        command = ["engine", "configure", "docker", "--config", str(self.path)]
        traced = ["strace", "-f", "-qq", *strace] if strace else []
        return subprocess.run(
            [*traced, sys.executable, "-m", "cdi_gen", *command],
            env=ENVIRONMENT | {"PYTHONPATH": str(self.library), "PYTHONHASHSEED": "0"},
            cwd=self.library, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def inject(self, call: Call, fault: str) -> subprocess.CompletedProcess[str]:
        self.again()
        options = injection(call.name, f"{fault}:when={call.number}")
        return self.run("-o", "/dev/null", *options)

    def whole(self) -> str:
        """The file, which must be the old one or the new one, with its mode; backup likewise."""
        text = self.path.read_text()
        assert text in {OLD, NEW}
        assert self.path.stat().st_mode & 0o777 == 0o640
        backup = Path(f"{self.path}.cdi-gen.bak")
        if backup.exists():
            assert backup.read_text() == OLD
            assert backup.stat().st_mode & 0o777 == 0o640
        else:
            assert text == OLD, "changed, and no backup"
        record = Path(f"{self.path}.cdi-gen.json")
        assert text == OLD or record.exists(), "changed, and no record"
        assert not record.exists() or json.loads(record.read_text())["steps"]
        return text

    def litter(self) -> set[str]:
        kept = {"daemon.json", "daemon.json.cdi-gen.bak", "daemon.json.cdi-gen.json"}
        return set(os.listdir(self.etc)) - kept


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(params=[5, pytest.param(1, marks=pytest.mark.nightly)], ids=["some", "all"])
def step(request: pytest.FixtureRequest) -> int:
    """Every fifth call; at night all of them."""
    return int(request.param)


MEMORY = {"mmap", "munmap", "mremap", "brk", "madvise"}
"""Of these there may be one less: it depends on where the kernel puts things."""


def test_killed_at_a_system_call(scene: Scene, step: int) -> None:
    """A47: at night at each."""
    ends = set()
    for call in scene.calls[::step]:
        done = scene.inject(call, "signal=KILL")
        if call.name in MEMORY and done.returncode == 0:
            continue
        assert done.returncode == -9, (call, done)
        ends.add(scene.whole())
        assert all(LEFT.fullmatch(name) for name in scene.litter()), call
        scene.run()
        assert scene.whole() == NEW, "and the next run does it"
    assert ends == {OLD, NEW}


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EACCES", "EMFILE", "EINTR"])
def test_a_system_call_that_fails(scene: Scene, step: int, error: str) -> None:
    """A48: at night each."""
    seen = 0
    for call in scene.calls[len(error) % step :: step * 2 - 1]:
        done = scene.inject(call, f"error={error}")
        text = scene.whole()
        assert "Traceback" not in done.stderr, (call, done)
        assert done.returncode in {0, 1, 7}, (call, done)
        if done.returncode == 0:
            assert text == NEW, (call, done)
        else:
            assert "cdi-gen: error: " in done.stderr or "close" in call.name, (call, done)
            seen += 1
        if call.name != "unlink":
            assert not scene.litter(), call
    assert seen
