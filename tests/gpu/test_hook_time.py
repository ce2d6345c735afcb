# SPDX-License-Identifier: Apache-2.0
"""The programs of ``python3 -m tests.gpu.several --only profile``, and what it makes of their results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.programs.container import CHECKOUT
from tests.gpu.several import hook_time
from tests.gpu.several.hook_time import INDENT, HookRun, ProcessRun

INSIDE = Path(hook_time.__file__).with_name("inside")
HOOK = CHECKOUT / "hooks/cdi-gen-hook"
MS = 1_000_000


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("measured") / "measured"
    source = str(INSIDE / "measured.c")
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", str(program), source], check=True)
    return program


def test_a_measured_program_keeps_its_exit_status(measured: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    for script, status in (("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)):
        argv = [str(measured), str(result), "/bin/sh", "-c", script]
        assert subprocess.run(argv, check=False).returncode == status
    runs = hook_time.process_runs(result.read_text(encoding="ascii"))
    assert len(runs) == 3
    assert all(run.wall > 0 and run.minor_faults > 0 and run.peak > 0 for run in runs)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "bundle/rootfs"
    for name in ("etc", "usr/lib", "usr/local/nvidia/lib64"):
        (root / name).mkdir(parents=True)
    (root.parent / "config.json").write_text('{"root": {"path": "rootfs"}}', encoding="ascii")
    return root.parent


@pytest.mark.parametrize("first", [[], ["--dry-run"]])
@pytest.mark.parametrize("mode", ["times", "counts"])
def test_the_timed_hook_does_what_the_hook_does(
    measured: Path, bundle: Path, tmp_path: Path, mode: str, first: list[str]
) -> None:
    result, processes = tmp_path / "result", tmp_path / "processes"
    timed = [sys.executable, "-IS", str(INSIDE / "timed_hook.py"), str(result), mode, str(HOOK)]
    words = [*first, "create-container", "--folder", "/usr/local/nvidia/lib64"]
    state = {
        "ociVersion": "1.0.2",
        "id": "t",
        "status": "creating",
        "pid": 0,
        "bundle": str(bundle),
    }
    subprocess.run(
        [str(measured), str(processes), *timed, *words],
        input=json.dumps(state),
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd=bundle / "rootfs",
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert (bundle / "rootfs/etc/ld.so.cache").exists() is not bool(first)
    runs = hook_time.hook_runs(result.read_text(encoding="ascii"))
    phases = hook_time.phases(runs, hook_time.process_runs(processes.read_text(encoding="ascii")))
    assert phases["step update-ldcache"] > 0
    assert f"{INDENT}update-ldcache: build the cache" in phases
    assert f"{INDENT}update-ldcache: read /usr/local/nvidia/lib64" in phases
    assert bool(runs[0].calls) is (mode == "counts")
    directories = [line for line in runs[0].directories if line.startswith("/usr/local/nvidia")]
    if mode == "counts":
        assert len(directories) == 1
        assert directories[0].endswith("; every name is looked at; 0 libraries")


def test_phases_add_up_to_the_whole_process() -> None:
    spans = (
        ("imports", 12 * MS, 15 * MS),
        ("read", 16 * MS, 18 * MS),
        ("step", 16 * MS, 19 * MS),
    )
    hook = HookRun(11 * MS, 20 * MS, 0, spans, {}, ())
    process = ProcessRun(10 * MS, 22 * MS, 5000, 6000, 7, 0, 1, 2, 4096)
    phases = hook_time.phases([hook], [process])
    assert phases["the whole process"] == 12
    assert phases[f"{INDENT}read"] == 2
    parts = ("the interpreter: until its first line", "imports", "step")
    ends = ("the rest between them", "the end of the process")
    assert [phases[name] for name in (*parts, *ends)] == [1, 3, 3, 3, 2]
    assert sum(phases[name] for name in (*parts, *ends)) == phases["the whole process"]


def test_a_failed_hook_has_no_times() -> None:
    hook = HookRun(0, 1, 1, (), {}, ())
    with pytest.raises(ValueError, match="ended with 1"):
        hook_time.phases([hook], [ProcessRun(0, 1, 0, 0, 0, 0, 0, 0, 0)])


def test_options_are_removed_with_their_values() -> None:
    words = ["create-container", "--folder", "/a", "--link", "b::c", "--folder=/d", "--switch"]
    assert hook_time.without(words, {"--folder"}) == [
        *("create-container", "--link", "b::c", "--switch"),
    ]
