# SPDX-License-Identifier: Apache-2.0
"""The machine itself: which processes of a program run, and which of them are to be believed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_gen.engines import machine as machines
from cdi_gen.engines.containerd import daemons
from cdi_gen.engines.machine import MAX_OUTPUT, Machine
from cdi_gen.engines.spec_directories import includes_a_default, normalized

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A program that runs under a name that no engine has."""
    sleep = shutil.which("sleep")
    assert sleep
    program = tmp_path / "daemon-of-a-test"
    shutil.copy(os.path.realpath(sleep), program)
    script = 'exec -a daemon-of-a-test "$0" 60 || exit'
    with subprocess.Popen(["bash", "-c", script, str(program)]) as process:
        while os.readlink(f"/proc/{process.pid}/exe") != str(program):
            assert process.poll() is None
            time.sleep(0.01)
        yield program
        process.kill()


def there(program: Path) -> bool:
    return str(program) in {path for path, _ in Machine().processes("daemon-of-a-test")}


@needs_root
def test_a_program_that_another_user_can_change_is_not_an_engine(running: Path) -> None:
    """cdi-gen would run the program as root to read its version."""
    assert there(running)
    os.chown(running, 1000, 1000)
    assert not there(running)
    os.chown(running, 0, 0)
    running.parent.chmod(0o777)
    assert not there(running)
    running.parent.chmod(0o755)


def test_of_several_programs_it_is_the_newest(tmp_path: Path) -> None:
    """RKE2 keeps those of former versions."""
    for number, version in enumerate(["v1.31.9", "v1.31.10", "v1.30.1"]):
        path = tmp_path / version / "containerd"
        path.parent.mkdir()
        path.write_text("")
        path.chmod(0o755)
        os.utime(path, (number, number))
    found = Machine().newest_program([f"{tmp_path}/nothing/*", f"{tmp_path}/*/containerd"])
    trusted = Machine().trusts(f"{tmp_path}/v1.30.1/containerd")
    assert found == (f"{tmp_path}/v1.30.1/containerd" if trusted else None)


@pytest.mark.parametrize(
    ("directories", "usual"),
    [
        (["/etc/cdi/"], True),
        (["/etc//cdi"], True),
        (["/etc/x/../cdi"], True),
        (["/run/cdi"], True),
        (["/var/run/cdi/"], True),
        ([], False),
        (["/etc/cdi.d"], False),
        (["etc/cdi"], False),
        ([1, None], False),
    ],
)
def test_directories_are_compared_as_paths(directories: list[object], usual: bool) -> None:
    assert includes_a_default(directories) == usual


def test_a_path_is_one_however_it_is_written() -> None:
    assert normalized("/var/run/cdi/") == normalized("/run//cdi")
    assert normalized("/var/runx/cdi") != normalized("/runx/cdi")


def test_a_process_without_words() -> None:
    class Odd(Machine):
        def processes(self, program: str) -> Iterator[tuple[str, tuple[str, ...]]]:
            yield "/usr/bin/containerd", ()

    assert daemons.daemon_of("/etc/x", "/etc/x", None, Odd()).program


def test_a_program_that_another_user_can_change_is_not_run(tmp_path: Path) -> None:
    """Root may have such a directory in PATH; the commands that only look run ``--version``."""
    program, trace = tmp_path / "docker", tmp_path / "trace"
    program.write_text(f"#!/bin/sh\necho run >{trace}\necho 28.0.1\n")
    program.chmod(0o777)
    assert Machine().version(str(program)) is None
    assert not trace.exists()
    program.chmod(0o755)
    assert Machine().version(str(program)) == "28.0.1"


@pytest.mark.parametrize("text", ["exec yes 12345", "echo 28.0.1; exec >&-; exec sleep 60"])
def test_a_program_that_prints_or_runs_without_an_end(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "TIMEOUT_SECONDS", 60.0 if "yes" in text else 0.2)
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert Machine().output(str(program)) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * MAX_OUTPUT >> 10
