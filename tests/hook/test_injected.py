# SPDX-License-Identifier: Apache-2.0
"""runc and crun start a bundle that `cdi-gen inject` edited, and the container has the devices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import cdi_gen
from tests.hook.conftest import Container
from tests.hook.runtimes import Runtime, in_a_user_namespace, start

pytestmark = pytest.mark.engine

LOOK = """
echo "$GPU"
stat -c '%F %t:%T %a %u:%g' /dev/fake0
cat /opt/data/inner/file /opt/data/outer
cat /dev/fake0 && echo readable
touch /opt/data/outer 2>/dev/null || echo read-only
id -G
"""


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A spec of a device that every host has, under another name; a mount before its parent."""
    folder = tmp_path / "cdi"
    data = tmp_path / "data"
    for each in (folder, data / "inner", data / "other"):
        each.mkdir(parents=True)
    (data / "outer").write_text("outer\n")
    (data / "other/file").write_text("inner\n")
    mounts = [
        {
            "hostPath": f"{data}/other",
            "containerPath": "/opt/data/inner",
            "options": ["ro", "rbind"],
        },
        {"hostPath": str(data), "containerPath": "/opt/data", "options": ["ro", "bind"]},
    ]
    edits = {
        "env": ["GPU=fake"],
        "deviceNodes": [{"path": "/dev/fake0", "hostPath": "/dev/null", "fileMode": 0o600}],
        "mounts": mounts,
        "additionalGids": [44],
    }
    device = {"name": "0", "containerEdits": edits}
    document = {"cdiVersion": "0.7.0", "kind": "example.com/fake", "devices": [device]}
    (folder / "fake.json").write_text(json.dumps(document))
    return folder


def started(runtime: Runtime, bundle: Container, specs: Path) -> list[str]:
    spec = bundle.spec
    (bundle.bundle / "config.json").write_text(json.dumps(spec))
    words = ("--device", "example.com/fake=0", "--spec-dir", str(specs), "--in-place")
    assert cdi_gen("inject", *words, str(bundle.bundle)).code == 0
    bundle.spec = json.loads((bundle.bundle / "config.json").read_text())
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout.splitlines()


@pytest.fixture
def looking(bundle: Container) -> Container:
    """A bundle without hook, whose process prints its environment, mounts and devices."""
    spec = bundle.spec
    del spec["hooks"], spec["mounts"][-1]
    spec["process"] |= {"args": ["/bin/busybox", "sh", "-c", LOOK], "cwd": "/"}
    for name in ("cat", "stat", "touch", "id"):
        (bundle.root / "bin" / name).symlink_to("busybox")
    return bundle


def test_the_container_has_what_was_injected(
    runtime: Runtime, looking: Container, specs: Path
) -> None:
    looking.spec["process"]["user"] = {"uid": 7, "gid": 8}
    assert started(runtime, looking, specs) == [
        "fake",
        "character special file 1:3 600 7:8",
        "inner",
        "outer",
        "readable",
        "read-only",
        "8 44",
    ]


def test_in_a_user_namespace(runtime: Runtime, looking: Container, specs: Path) -> None:
    """In a user namespace runc bind-mounts the host's node, and mounts get mapped owners."""
    file = specs / "fake.json"
    file.write_text(file.read_text().replace("/dev/fake0", "/dev/null"))
    looking.spec["process"]["args"][-1] = LOOK.replace("fake0", "null")
    in_a_user_namespace(looking, 65536)
    container = started(runtime, looking, specs)
    options = [mount.get("options", []) for mount in looking.spec["mounts"]]
    assert options[-2:] == [["ro", "bind", "idmap"], ["ro", "rbind", "ridmap"]]
    assert container[0] == "fake"
    assert container[1].startswith("character special file 1:3 ")
    assert container[2:5] == ["inner", "outer", "readable"]
