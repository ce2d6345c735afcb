# SPDX-License-Identifier: Apache-2.0
"""Images that would have the hook mount, make or open something outside of the container.

The oracles are those of tests/attack: the host can be written to nowhere but in the test's folder,
the sentinel beside the image is as it was, and so is the mount table. Each case is also run on a hook
that joins paths (naive_prestart.py), which must be caught.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.oracles import HarmError
from tests.hook.conftest import PYTHON
from tests.prestart.machine import LIBRARIES, LIBRARY, NO_DEVICE, Engine, Machine

pytestmark = pytest.mark.engine

NAIVE = Path(__file__).with_name("naive_prestart.py")

OUT = {
    "absolute": lambda machine: f"{machine.canary}/dir",
    "relative": lambda machine: "../" * 12 + f"{machine.canary}/dir".lstrip("/"),
    "through proc": lambda machine: f"/proc/self/root{machine.canary}/dir",
    "through another's root": lambda machine: f"/proc/1/root{machine.canary}/dir",
}


@pytest.mark.parametrize("way", OUT)
@pytest.mark.parametrize("place", ["usr", "usr/lib", "usr/lib/odd"])
def test_directory_that_is_a_link_out_of_the_root_resolves_inside(
    machine: Machine, engine: Engine, place: str, way: str
) -> None:
    """A14: in the container the link leads to a folder of the container, or nowhere."""
    target = machine.root / place
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(OUT[way](machine))
    machine.run(engine, "cat /proc/self/mountinfo")


@pytest.mark.parametrize("way", OUT)
def test_mount_point_that_is_a_link_out_of_the_root_resolves_inside(
    machine: Machine, engine: Engine, way: str
) -> None:
    """A27 compat-link-mount."""
    place = machine.root / LIBRARY.lstrip("/")
    place.parent.mkdir(parents=True)
    place.symlink_to(f"{OUT[way](machine)}/../file")
    machine.run(engine)


def test_link_to_a_file_of_the_host_covers_the_containers_file(
    machine: Machine, engine: Engine
) -> None:
    """The container's file of that name is covered, not the host's."""
    (machine.canary / "dir/libcuda.so.550.1").write_text("the operator's")
    machine.prints = machine.fingerprint()
    machine.edits["hooks"] = []
    (machine.root / LIBRARIES.lstrip("/")).symlink_to(machine.canary / "dir")
    inside = machine.root / str(machine.canary).lstrip("/") / "dir"
    inside.mkdir(parents=True)
    assert "ELF" in machine.started(engine, f"head -c4 {machine.canary}/dir/libcuda.so.550.1")
    assert [path.name for path in inside.iterdir()] == ["libcuda.so.550.1"]


def test_link_inside_the_root_is_followed(machine: Machine, engine: Engine) -> None:
    """Merged /usr, and what else distributions do."""
    (machine.root / "srv/real").mkdir(parents=True)
    (machine.root / LIBRARIES.lstrip("/")).symlink_to("/srv/real")
    output = machine.started(engine, "cat /proc/self/mountinfo")
    assert " /srv/real/libcuda.so.550.1 " in output


@pytest.mark.parametrize("text", ["/opt/gone/libcuda.so", "../../../srv/gone", "beside"])
def test_target_of_a_dangling_link_is_created(machine: Machine, engine: Engine, text: str) -> None:
    """What it leads to is made, as runc and crun do for a mount that they make themselves."""
    place = machine.root / LIBRARY.lstrip("/")
    place.parent.mkdir(parents=True)
    place.symlink_to(text)
    assert "ELF" in machine.started(engine, f"head -c4 {LIBRARY}")
    assert os.readlink(place) == text


def test_circle_of_links_at_a_mount_point_is_rejected(machine: Machine, engine: Engine) -> None:
    place = machine.root / LIBRARY.lstrip("/")
    place.parent.mkdir(parents=True)
    place.symlink_to(place.name)
    machine.refused(engine, "is a dangling link in the image")


@pytest.mark.parametrize("kind", ["file", "folder with nodes"])
def test_engine_covers_dev_of_the_image(machine: Machine, engine: Engine, kind: str) -> None:
    """The engine mounts its own /dev over that of the image; with a link there runc 1.1.5 itself does harm."""
    place = machine.root / "dev"
    place.rmdir()
    if kind == "file":
        place.touch()
        assert machine.run(engine).status != 0
        return
    place.mkdir()
    os.mknod(place / "nvidia0", 0o020666, os.makedev(1, 1))
    assert NO_DEVICE in machine.started(engine, "cat </dev/nvidia0")


def test_other_file_in_place_of_a_node_is_rejected(machine: Machine, engine: Engine) -> None:
    """A node of the image is not accepted in place of the driver's."""
    mounts = machine.spec["mounts"]
    machine.spec["mounts"] = [
        mount for mount in mounts if not mount["destination"].startswith("/dev")
    ]
    os.mknod(machine.root / "dev/nvidia0", 0o020666, os.makedev(1, 1))
    machine.refused(engine, "exists in the container and is not this device")


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_mount_point_of_another_kind_is_rejected(
    machine: Machine, engine: Engine, kind: str
) -> None:
    """A file cannot be mounted on a directory; on any other file it can, without opening it."""
    place = machine.root / LIBRARY.lstrip("/")
    place.parent.mkdir(parents=True)
    if kind == "folder":
        place.mkdir()
        machine.refused(engine, "is a directory in the image")
        return
    if kind == "pipe":
        os.mkfifo(place)
    else:
        os.mknod(place, 0o020666, os.makedev(10, 130))
    assert "ELF" in machine.started(engine, f"head -c4 {LIBRARY}")


def test_root_of_the_host_is_rejected(machine: Machine, runc: Engine) -> None:
    """A11 rootfs-is-host: whatever the bundle calls it: runc itself has gone to it by then."""
    machine.edits["hooks"] = []
    machine.spec["root"]["path"] = "/"
    machine.spec["process"]["cwd"] = "/"
    ended = machine.run(runc, "true")
    assert ended.status != 0


def test_mount_point_in_proc_is_rejected(machine: Machine, engine: Engine) -> None:
    """CVE-2019-16884: what covers files of /proc keeps the runtime from confining the container."""
    (machine.root / LIBRARIES.lstrip("/")).parent.mkdir(exist_ok=True, parents=True)
    (machine.root / LIBRARIES.lstrip("/")).symlink_to("/proc/1/attr")
    machine.edits["mounts"][0]["containerPath"] = f"{LIBRARIES}/current"
    machine.refused(engine, "leads into the container's /proc")


@pytest.mark.parametrize("propagation", ["rprivate", "rshared"])
def test_nothing_is_created_in_a_volume(machine: Machine, engine: Engine, propagation: str) -> None:
    """`-v /srv/data:/usr/lib/odd`: an engine would make the mount point in the operator's folder."""
    machine.spec["mounts"].append(_volume(machine, propagation))
    machine.refused(engine, "is missing in a volume")
    assert not any((machine.canary / "dir").iterdir())


def test_existing_mount_point_in_a_volume_is_used(machine: Machine, engine: Engine) -> None:
    """Then nothing is made, and the container alone sees what covers it."""
    place = machine.canary / "dir/libcuda.so.550.1"
    place.write_text("the operator's")
    machine.prints = machine.fingerprint()
    machine.edits["hooks"] = []
    machine.spec["mounts"].append(_volume(machine, "rprivate"))
    assert "ELF" in machine.started(engine, f"head -c4 {LIBRARY}")


def test_volume_with_shared_propagation_is_rejected(machine: Machine, engine: Engine) -> None:
    """With shared propagation the driver would appear in the operator's folder (A26)."""
    (machine.canary / "dir/libcuda.so.550.1").touch()
    machine.prints = machine.fingerprint()
    # As engines write it for a volume with `:shared`.
    machine.spec["linux"]["rootfsPropagation"] = "rshared"
    machine.spec["mounts"].append(_volume(machine, "rshared"))
    machine.refused(engine, "lies in a volume with shared propagation")


def test_root_with_shared_propagation_is_accepted(machine: Machine, engine: Engine) -> None:
    """The mount table of the machine is compared by `run`."""
    machine.spec["linux"]["rootfsPropagation"] = "rshared"
    machine.started(engine)


def test_mount_point_is_created_in_the_containers_tmpfs(machine: Machine, engine: Engine) -> None:
    """`--read-only --tmpfs /run`: the daemon's socket is mounted in there."""
    machine.edits["mounts"][0]["containerPath"] = "/run/nvidia-persistenced/socket"
    machine.edits["hooks"] = []
    machine.spec["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs"})
    machine.spec["root"]["readonly"] = True
    assert "ELF" in machine.started(engine, "head -c4 /run/nvidia-persistenced/socket")


def _volume(machine: Machine, propagation: str) -> dict[str, object]:
    return {
        "destination": LIBRARIES,
        "type": "bind",
        "source": str(machine.canary / "dir"),
        "options": ["rbind", "rw", propagation],
    }


NOTICED: dict[str, list[tuple[Callable[..., None], dict[str, str]]]] = {
    "O-SENT": [
        (
            test_directory_that_is_a_link_out_of_the_root_resolves_inside,
            {"place": "usr/lib", "way": "absolute"},
        ),
        (
            test_directory_that_is_a_link_out_of_the_root_resolves_inside,
            {"place": "usr", "way": "relative"},
        ),
        (
            test_directory_that_is_a_link_out_of_the_root_resolves_inside,
            {"place": "usr/lib", "way": "through proc"},
        ),
        (test_nothing_is_created_in_a_volume, {"propagation": "rprivate"}),
    ],
    "O-MNT": [(test_volume_with_shared_propagation_is_rejected, {})],
}


@pytest.mark.parametrize(
    ("oracle", "test", "arguments"),
    [(oracle, *case) for oracle, cases in NOTICED.items() for case in cases],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_oracle_detects_a_naive_hook(
    machine: Machine,
    runc: Engine,
    oracle: str,
    test: Callable[..., None],
    arguments: dict[str, str],
) -> None:
    _naive(machine)
    with pytest.raises(HarmError) as noticed:
        test(machine, runc, **arguments)
    assert noticed.value.oracle == oracle


def test_a_naive_hook_works_on_a_friendly_image(machine: Machine, runc: Engine) -> None:
    _naive(machine)
    assert "ELF" in machine.started(runc, f"head -c4 {LIBRARY}")


def _naive(machine: Machine) -> None:
    script = machine.folder / "naive"
    script.write_text(f"#!/bin/sh\nexec {PYTHON} {NAIVE} {machine.specs / 'nvidia.json'}\n")
    script.chmod(0o755)
    machine.program = str(script)
