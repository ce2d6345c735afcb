# SPDX-License-Identifier: Apache-2.0
"""A72 prestart-pivoted: a state whose process is in its own root already, where an image has programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attack import oracles
from tests.hook.conftest import HOOKS, PYTHON
from tests.prestart.machine import LIBRARY, Machine

pytestmark = pytest.mark.engine

EVIL = "#!/bin/sh\nexec >/hook-of-the-image\n"

PIVOT = """
    mount --make-rprivate /
    mount --bind {root} {root}
    cd {root}
    mkdir -p old proc
    mount -t proc proc proc
    touch dev/null
    mount --bind /dev/null dev/null
    {leave}
    exec /bin/busybox sh -c 'echo ready; exec /bin/busybox sleep 50'
"""
LEAVES = {
    "pivot_root": "pivot_root . old",
    # As runc does it with --no-pivot.
    "move": "mount --move . /; exec chroot . /bin/busybox sh -c 'echo ready; exec /bin/busybox sleep 50'",
}


@contextmanager
def container(machine: Machine, leave: str) -> Iterator[int]:
    """A process of the image, in a mount namespace whose root is the image."""
    script = PIVOT.format(root=machine.root, leave=LEAVES[leave])
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-ec", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


def prestart(machine: Machine, number: int, root: str) -> subprocess.CompletedProcess[str]:
    state = {"ociVersion": "1.0.2", "id": "x", "pid": number, "bundle": str(machine.bundle)}
    return subprocess.run(
        [machine.program, "-config", str(machine.settings), "prestart"],
        input=json.dumps({**state, "root": root}),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )


def _with_programs_of_the_image(machine: Machine) -> None:
    for path in (str(HOOKS / "cdi-gen-hook"), PYTHON, "/bin/sh"):
        place = machine.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_text(EVIL)
        place.chmod(0o755)
    (machine.root / "bin/sh").unlink()
    (machine.root / "bin/sh").symlink_to("busybox")


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("which", ["another program", "ours"])
def test_container_that_has_pivoted_is_rejected(
    machine: Machine, leave: str, which: str, tmp_path: Path
) -> None:
    """A72 prestart-pivoted: nothing of the image is run or mounted, and the reason is told."""
    _with_programs_of_the_image(machine)
    if which == "another program":
        machine.edits["hooks"][0]["path"] = str(tmp_path / "vendor-hook")
        place = machine.root / str(tmp_path / "vendor-hook").lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(EVIL)
        place.chmod(0o755)
    machine.edits["deviceNodes"] = []
    (machine.root / "srv").mkdir()
    machine.write_down()
    spec = json.loads((machine.specs / "nvidia.json").read_text())
    for device in spec["devices"]:
        device["containerEdits"] = {"env": ["X=1"]}
    (machine.specs / "nvidia.json").write_text(json.dumps(spec))
    # A folder of the image's; the container's own / is refused by what it is.
    for path in ("/srv", str(machine.root)):
        image = oracles.fingerprint(machine.root)
        with container(machine, leave) as number:
            ended = prestart(machine, number, path)
            mounts = Path(f"/proc/{number}/mountinfo").read_text()
        assert ended.returncode == 1, ended
        assert "has already left the host's root" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert LIBRARY.rpartition("/")[2] not in mounts
        assert not (machine.root / "hook-of-the-image").exists()
        left = oracles.differences(image, oracles.fingerprint(machine.root))
        assert left <= {"old", ".", "dev", "dev/null"}, left
