# SPDX-License-Identifier: Apache-2.0
"""What ``python3 -m tests.gpu.programs`` is made of, on a machine without a GPU."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.mount_namespace import output_of
from tests.gpu.programs import machine, report
from tests.gpu.programs.container import FAILED, INSIDE, NOT_THERE, PASSED, TIMED_OUT, Outcome
from tests.gpu.programs.programs import PROGRAMS, Program

IN_CONTAINERS = """
import json, sys
from pathlib import Path
from tests.gpu.programs import machine
from tests.gpu.programs.container import Form, Runner
from tests.gpu.programs.programs import Program

folder = Path(sys.argv[1])
machine.mount("-t", "tmpfs", "tmpfs", folder)
inventory = {"libraries": [], "files": [{"path": "/usr/bin/env"}, {"path": "/run/nothing"}]}
root = machine.of_this_machine(inventory, folder / "bare")
specs, containers = folder / "specs", folder / "containers"
specs.mkdir(), containers.mkdir()
device = {"name": "all", "containerEdits": {"env": ["GIVEN=yes"]}}
spec = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [device]}
(specs / "nvidia.json").write_text(json.dumps(spec))
runner = Runner([sys.argv[2]], root, containers, "nvidia.com/gpu=all", {"PATH": "/usr/bin:/bin", "HOME": "/tmp/home"})
none, given = Form("no device", None), Form("hook", specs)
tried = [
    (Program("a", "test ! -e /usr/bin/env && touch /usr/bin/new && echo fine", sign="fine"), none),
    (Program("a", "test ! -e /usr/bin/new && echo $GIVEN", sign="yes"), given),
    (Program("b", "echo otherwise", sign="fine"), none),
    (Program("c", "echo said; exit 3"), none),
    (Program("d", "exit 77"), none),
    (Program("e", "echo begun; sleep 60", seconds=2), none),
    (Program("f", "true"), Form("nvidia", specs, "no nvidia-ctk")),
    (Program("g", "true"), Form("bad", folder / "nothing")),
]
print(json.dumps([runner.run(*each) for each in tried]))
"""


@pytest.mark.engine
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(shutil.which("runc") is None, reason="needs runc")
def test_programs_in_containers(tmp_path: Path) -> None:
    """The driver is gone there and not here; each run has a root of its own; each end is told."""
    found = [Outcome(*each) for each in json.loads(output_of(IN_CONTAINERS, tmp_path, "runc"))]
    assert [each.verdict for each in found] == [
        *(PASSED, PASSED, FAILED, f"{FAILED}, exit 3", NOT_THERE, TIMED_OUT, "no nvidia-ctk"),
        FAILED,
    ], found
    assert (found[3].output, found[5].output) == ("said\n", "begun\n")
    assert "no container" in found[7].output
    assert os.path.exists("/usr/bin/env")
    assert not os.path.exists("/usr/bin/new")


def test_every_file_is_a_program_s_and_every_program_has_its_file() -> None:
    named = {
        word
        for program in PROGRAMS
        for word in program.script.replace(";", " ").split()
        if word.startswith(("/inside/", "/gpu/"))
    }
    there = {f"/inside/{path.name}" for path in INSIDE.iterdir() if path.is_file()}
    c_programs = {f"/gpu/{path.name}" for path in INSIDE.parents[1].glob("*.c")}
    assert named == (there - {"/inside/absent.py"}) | c_programs
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_scripts_can_be_read(program: Program) -> None:
    subprocess.run(["sh", "-n", "-c", program.script], check=True)


@pytest.mark.parametrize("path", sorted(INSIDE.glob("*.py")), ids=lambda path: path.name)
def test_programs_can_be_read_by_old_pythons(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_an_absent_module_is_no_failure(tmp_path: Path) -> None:
    """But one that is there and cannot be imported is."""
    (tmp_path / "broken.py").write_text("import of_nobody")
    for name, status in (("of_nobody_either", 77), ("os.nothing", 77), ("broken", 1), ("os", 0)):
        code = f"import absent; absent.needed({name!r})"
        path = f"{INSIDE}:{tmp_path}"
        ran = subprocess.run(
            [sys.executable, "-B", "-c", code],
            env={"PYTHONPATH": path},
            capture_output=True,
            check=False,
        )
        assert ran.returncode == status, name


def test_the_driver_s_files_are_all_their_names() -> None:
    inventory = {
        "libraries": [
            {
                "path": "/opt/d/libcuda.so.1.2",
                "soname": "libcuda.so.1",
                "links": ["libcuda.so"],
                "aliases": ["/usr/lib/libcuda.so.1.2"],
            }
        ],
        "files": [
            {"path": "/opt/d/nvidia-smi", "seenAt": "/usr/bin/nvidia-smi"},
            {"path": "/run/nvidia-persistenced/socket"},
        ],
    }
    homes = ("/opt/d", "/usr/lib")
    names = ("libcuda.so", "libcuda.so.1", "libcuda.so.1.2")
    assert machine.driver_files(inventory) == sorted(
        [f"{home}/{name}" for home in homes for name in names]
        + ["/opt/d/nvidia-smi", "/usr/bin/nvidia-smi"]
    )


def test_the_page() -> None:
    programs = [Program("one", ""), Program("two", "")]
    results = {
        ("one", "hook"): Outcome(PASSED, 1.26, "\n".join("abcdefgh")),
        ("one", "nvidia"): Outcome("no nvidia-ctk", 0, ""),
        ("two", "hook"): Outcome(f"{FAILED}, exit 1", 2, "why ```\n"),
    }
    text = report.text(["a\nb"], programs, ["hook", "nvidia"], results)
    assert "- a\n- b\n" in text
    assert "| one | passed, 1.3 s | - |\n| two | FAILED, exit 1 | - |\n" in text
    assert "### one, hook: passed\nc\nd\n" in text
    assert "### two, hook: FAILED, exit 1\nwhy '''\n" in text
    assert report.status(results) == 1
    del results["two", "hook"]
    assert report.status(results) == 0
