# SPDX-License-Identifier: Apache-2.0
"""Whatever ends the program that makes a tree, and whenever: the old tree or the new one, whole."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cdi_gen import tree
from cdi_gen.errors import CdiGenError
from cdi_gen.tree import directory
from tests.host.looking import REPOSITORY
from tests.tree.small_driver import COPIED, FILES, mounts_below, replace, tree_of

MAKE = """
import sys
sys.path[:0] = [".", "hooks", "specs"]
from pathlib import Path
from cdi_gen import tree
from cdi_gen.errors import CdiGenError
from tests.tree.small_driver import tree_of
driver, root, without = sys.argv[1:]
try:
    tree.make(tree_of(Path(driver), without=without), root, settle=0)
    tree.clean(root, grace=0)
except CdiGenError as error:
    sys.exit(f"{error.message} [{error.code}]")
"""

PROGRAM = [sys.executable, "-I", "-S", "-c", MAKE]

CALLS = (
    *("mkdir", "mkdirat", "symlink", "symlinkat", "rename", "unlink", "rmdir", "flock", "fchmod"),
    *("mount", "umount2", "unshare", "setns", "prctl", "open_tree", "move_mount", "fork", "clone"),
)
"""What changes anything, or whose failure could; an interpreter that starts calls none of them."""

ERRORS = ("EPERM", "ENOMEM", "ENOSPC", "EIO", "ENOENT")
NO_ERRORS = {"prctl"}
"""Its failure means only that the process outlives the one that started it."""

Call = tuple[str, int]


class Stage:
    """A driver of which the current tree has all files, and the next one all but one."""

    def __init__(self, driver: Path, root: str) -> None:
        self.driver, self.root = driver, root
        self.old = tree.make(tree_of(driver), root, settle=0).tree
        self.tree = tree_of(driver, without="nvidia-smi")
        self.trace = Path(root).parent / "trace"

    def run(self, *strace: str) -> subprocess.CompletedProcess[str]:
        """Make the next tree, below strace."""
        command = ["strace", "-f", "-qq", "-e", f"trace={','.join(CALLS)}", *strace]
        command += [*PROGRAM, str(self.driver), self.root, "nvidia-smi"]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    def calls(self) -> list[Call]:
        """The calls of a run without a fault; strace counts those of each process."""
        ended = self.run("-o", str(self.trace))
        assert ended.returncode == 0, ended.stderr
        counts: Counter[tuple[str, str]] = Counter()
        for line in self.trace.read_text().splitlines():
            match = re.match(r"(\d+) +(\w+)\(", line)
            if match:
                counts[match[1], match[2]] += 1
        self.again()
        return sorted(
            {(name, n) for (_, name), count in counts.items() for n in range(1, count + 1)}
        )

    def inject(self, call: Call, fault: str) -> subprocess.CompletedProcess[str]:
        name, number = call
        return self.run("-o", "/dev/null", "-e", f"inject={name}:{fault}:when={number}")

    def again(self) -> None:
        tree.make(tree_of(self.driver), self.root)
        tree.clean(self.root, grace=0)

    def check_current(self, call: Call) -> str:
        """The current tree is one of the two, and whole; return its name."""
        now = tree.current(self.root)
        assert now is not None, call
        is_old = now.name == self.old.name
        assert is_old or tree.is_current(self.tree, self.root), call
        files = {path for path, name in FILES.items() if is_old or name != "nvidia-smi"}
        mounted = {f"{now.path}/{path}" for path in files - COPIED}
        assert mounts_below(now.path).keys() == {now.path, *mounted}
        for path in files:
            assert Path(now.path, path).read_text() == (self.driver / FILES[path]).read_text()
        return now.name

    def check_no_litter(self, call: Call) -> None:
        """The next run leaves the new tree alone."""
        tree.make(self.tree, self.root)
        tree.clean(self.root, grace=0)
        now = tree.current(self.root)
        assert now is not None
        assert sorted(os.listdir(self.root)) == sorted(["current", "lock", now.name]), call
        assert mounts_below(self.root).keys() == mounts_below(now.path).keys(), call


@pytest.fixture
def stage(driver: Path, root: str) -> Stage:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    return Stage(driver, root)


def test_killed_at_each_call(stage: Stage) -> None:
    calls = stage.calls()
    assert {"mount", "move_mount", "rename", "umount2", "rmdir"} <= {name for name, _ in calls}
    current = set()
    for call in calls:
        stage.inject(call, "signal=KILL")
        current.add(stage.check_current(call))
        stage.check_no_litter(call)
        stage.again()
    assert len(current) == 2


def test_each_call_fails(stage: Stage) -> None:
    reported = 0
    for call, error in zip(stage.calls(), itertools.cycle(ERRORS), strict=False):
        ended = stage.inject(call, f"error={error}")
        assert "Traceback" not in ended.stderr, (call, ended.stderr)
        stage.check_current(call)
        if ended.returncode:
            reported += 1
            assert re.search(r"\[CDG-L00\d\]$", ended.stderr.strip()), (call, ended.stderr)
            assert ended.stderr.count("\n") == 1
        else:
            assert call[0] in NO_ERRORS or tree.is_current(stage.tree, stage.root), call
        stage.check_no_litter(call)
        stage.again()
    assert reported > 20


def test_many_at_once_leave_one_tree(driver: Path, root: str) -> None:
    """Every caller finds the tree of the last one, or its own; nobody waits for ever."""
    command = [*PROGRAM, str(driver), root]
    callers = [
        subprocess.Popen([*command, without], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        for without in ("", "nvidia-smi", "nvidia.icd") * 4
    ]
    assert [caller.communicate(timeout=300)[1] for caller in callers] == [""] * len(callers)
    now = tree.current(root)
    assert now is not None
    assert sorted(os.listdir(root)) == sorted(["current", "lock", now.name])
    assert mounts_below(root).keys() == mounts_below(now.path).keys()


def test_the_current_tree_is_always_there(driver: Path, root: str) -> None:
    """A reader opens a file of the current tree in the moments of many changes."""
    tree.make(tree_of(driver), root, settle=0)
    script = f"""
import os
while os.path.exists({root!r} + "/go"):
    path = os.path.realpath({root!r} + "/current")
    top = os.open({root!r} + "/current", os.O_RDONLY)
    names = os.listdir(top)
    # Between reading the link and opening the directory, two changes may have happened.
    assert names or not os.path.exists(path + "/lib64"), names
    os.close(top)
print("always")
"""
    Path(root, "go").touch()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as reader:
        for number in range(20):
            replace(driver / "nvidia-smi", f"{number}\n")
            tree.make(tree_of(driver), root, settle=0)
            tree.clean(root, grace=0)
        Path(root, "go").unlink()
        assert reader.communicate()[0] == b"always\n"


def test_a_process_that_does_not_end_its_change_is_reported(
    driver: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh at boot would wait for it for ever, and engines for the refresh."""
    tree.make(tree_of(driver), root)
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.1)
    with open(f"{root}/lock", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CdiGenError, match="another change of the driver tree") as refusal:
            tree.make(tree_of(driver), root)
    assert refusal.value.code == "CDG-L006"
    assert not tree.make(tree_of(driver), root).changed
