# SPDX-License-Identifier: Apache-2.0
"""`docker run --gpus all`, as runc and crun see it: the prestart hook on real containers."""

from __future__ import annotations

import os
import stat

import pytest

from tests.prestart.machine import ABSENT, DENIED, LIBRARIES, LIBRARY, NO_DEVICE, Engine, Machine

pytestmark = pytest.mark.engine


def test_nodes_can_be_opened(machine: Machine, engine: Engine) -> None:
    """ENXIO: the node is there and its control group has let it pass; no driver is behind it."""
    names = ("nvidia0", "nvidia1", "nvidiactl", "caps/cap1", "nvidia2")
    found = machine.opens(engine, *names)
    assert found == {**dict.fromkeys(names, NO_DEVICE), "nvidia2": ABSENT}


def test_what_an_image_asks_for_and_then_its_user(machine: Machine, engine: Engine) -> None:
    """`docker run --gpus device=1` of an image with ENV NVIDIA_VISIBLE_DEVICES=all."""
    machine.asks(
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=rubbish",
        "NVIDIA_VISIBLE_DEVICES=1",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    )
    assert machine.opens(engine, "nvidia0", "nvidia1") == {"nvidia0": ABSENT, "nvidia1": NO_DEVICE}
    said = machine.started(engine, "env | grep NVIDIA | sort")
    assert said == "NVIDIA_DRIVER_CAPABILITIES=compute,utility\nNVIDIA_VISIBLE_DEVICES=1\n"


def test_a_device_of_many_time_slices(machine: Machine, engine: Engine) -> None:
    machine.asks("NVIDIA_VISIBLE_DEVICES=" + ",".join(["1"] * 5000))
    assert machine.opens(engine, "nvidia0", "nvidia1") == {"nvidia0": ABSENT, "nvidia1": NO_DEVICE}


def test_the_library_is_loaded(program: Machine, engine: Engine) -> None:
    """Mounted, linked, and in the cache: the spec's own hook has run."""
    said = program.started(engine, "/bin/loads libcuda.so.1; grep -c libcuda /proc/self/mountinfo")
    assert said == "libcuda.so.1=42\n1\n"


def test_a_mount_is_what_the_spec_says(machine: Machine, engine: Engine) -> None:
    said = machine.started(
        engine,
        f"grep -e ' {LIBRARY} ' -e firmware /proc/self/mountinfo | cut -d' ' -f6-7;"
        f"cat /usr/firmware/550/gsp.bin; echo x > /usr/firmware/550/gsp.bin; mount | grep -c odd",
    )
    # Field 7 is "-" where a mount tells nobody and is told by nobody.
    assert said.splitlines()[:2] == [
        "ro,nosuid,nodev,noexec,relatime -",
        "ro,nosuid,nodev,relatime -",
    ]
    assert "gsp" in said
    assert "Read-only file system" in said


def test_a_node_is_what_the_spec_says(machine: Machine, engine: Engine) -> None:
    machine.edits["deviceNodes"].append(machine.node("nvidia1", path="/dev/x/y", uid=7, gid=8))
    said = machine.started(
        engine, "stat -c '%n %a %u:%g %t:%T' /dev/nvidia0 /dev/caps/cap1 /dev/x/y; ls -ld /dev/x"
    )
    assert said.splitlines()[:3] == [
        "/dev/nvidia0 666 0:0 c3:0",
        "/dev/caps/cap1 440 0:0 ed:1",
        "/dev/x/y 666 7:8 c3:1",
    ]
    assert said.splitlines()[3].startswith("drwxr-xr-x")


def test_a_node_of_an_ordinary_users_container_is_theirs(machine: Machine, engine: Engine) -> None:
    """As engines have it: uid and gid that the spec leaves open are the process's."""
    machine.spec["process"]["user"] = {"uid": 1000, "gid": 1001}
    assert machine.started(engine, "stat -c %u:%g /dev/nvidia0") == "1000:1001\n"


def test_a_read_only_container(program: Machine, engine: Engine) -> None:
    program.spec["root"]["readonly"] = True
    said = program.started(engine, "/bin/loads libcuda.so.1; cat </dev/nvidia0; echo > /x")
    assert "libcuda.so.1=42" in said
    assert NO_DEVICE in said
    assert "Read-only file system" in said


def test_a_user_namespace(program: Machine, engine: Engine) -> None:
    """A node that is made in it could not be opened: it is a mount of the host's."""
    program.with_a_user_namespace()
    said = program.started(
        engine,
        "/bin/loads libcuda.so.1; cat </dev/nvidia0; grep -c ' /dev/nv' /proc/self/mountinfo",
    )
    assert "libcuda.so.1=42" in said
    assert NO_DEVICE in said
    assert said.endswith("3\n")
    for name in ("usr/lib/odd", "usr/firmware", "etc/ld.so.cache", "usr/lib/odd/libcuda.so.1"):
        status = (program.root / name).lstat()
        assert (status.st_uid, status.st_gid) == (100000, 100000), name


def test_a_second_start(program: Machine, engine: Engine) -> None:
    """`docker restart`: the mount points and links of the first are there."""
    program.started(engine)
    once = {p: p.lstat().st_mtime_ns for p in program.root.rglob("*") if not p.is_dir()}
    assert "42" in program.started(engine, "/bin/loads libcuda.so.1")
    assert {p: p.lstat().st_mtime_ns for p in program.root.rglob("*") if not p.is_dir()} == once


def test_what_is_left_in_the_image(machine: Machine, engine: Engine) -> None:
    """Empty mount points, as a CDI engine leaves them, and what the spec's hook makes."""
    before = {path.relative_to(machine.root) for path in machine.root.rglob("*")}
    machine.started(engine)
    after = {path.relative_to(machine.root) for path in machine.root.rglob("*")}
    assert {str(path) for path in after - before} == {
        "usr/firmware",
        "usr/firmware/550",
        "usr/lib/odd",
        "usr/lib/odd/libcuda.so.550.1",
        "usr/lib/odd/libcuda.so.1",
        "etc/ld.so.cache",
        "etc/ld.so.conf.d",
        "etc/ld.so.conf.d/00-cdi-gen.conf",
    }
    status = (machine.root / LIBRARY.lstrip("/")).lstat()
    assert (status.st_size, stat.S_IMODE(status.st_mode)) == (0, 0o644)
    assert stat.S_IMODE((machine.root / LIBRARIES.lstrip("/")).lstat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("variables", "nodes"),
    [
        ([], set()),
        (["NVIDIA_VISIBLE_DEVICES="], set()),
        (["NVIDIA_VISIBLE_DEVICES=void"], set()),
        (["NVIDIA_VISIBLE_DEVICES=none"], {"nvidiactl"}),
        (["NVIDIA_VISIBLE_DEVICES=1"], {"nvidia1", "nvidiactl"}),
        (["NVIDIA_VISIBLE_DEVICES=0,1"], {"nvidia0", "nvidia1", "nvidiactl"}),
        (["NVIDIA_VISIBLE_DEVICES=0,0"], {"nvidia0", "nvidiactl"}),
        (["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=1"], {"nvidia1", "nvidiactl"}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_requests(machine: Machine, runc: Engine, variables: list[str], nodes: set[str]) -> None:
    machine.asks(*variables)
    said = machine.started(runc, f"ls /dev; echo; ls {LIBRARY}")
    assert {name for name in said.split() if name.startswith("nvidia")} == nodes
    assert (ABSENT in said.lower()) is (not nodes)


def test_without_a_request_the_spec_is_not_looked_for(machine: Machine, runc: Engine) -> None:
    """Every container of an engine may come by here."""
    machine.asks()
    machine.settings.write_text(
        '[nvidia-container-runtime]\nmode = "cdi"\n'
        '[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["/nowhere"]\n'
    )
    assert machine.started(runc, "ls /dev | grep -c nvidia") == "0\n"


def test_a_device_that_is_not_there(machine: Machine, engine: Engine) -> None:
    machine.asks("NVIDIA_VISIBLE_DEVICES=7")
    machine.refused(engine, "nvidia.com/gpu has no device 7")


@pytest.mark.parametrize("groups", ["v1", "v2"])
def test_without_control_groups_a_node_is_denied(machine: Machine, groups: str) -> None:
    """The control of all that is said above about opening; and `no-cgroups` is honoured."""
    machine.configure("no-cgroups = true")
    assert machine.opens(Engine("runc", groups), "nvidia0") == {"nvidia0": DENIED}


@pytest.mark.parametrize("groups", ["v1", "v2"])
def test_nothing_else_may_be_opened(machine: Machine, groups: str) -> None:
    """Neither another GPU, nor more of one than the spec says, nor less of what went before."""
    machine.asks("NVIDIA_VISIBLE_DEVICES=0")
    machine.edits["deviceNodes"].append(machine.node("caps/cap1", permissions="r"))
    del machine.edits["deviceNodes"][1]
    capabilities = machine.spec["process"]["capabilities"]
    for kind in capabilities:
        capabilities[kind] += ["CAP_MKNOD"]
    said = machine.started(
        Engine("runc", groups),
        "mknod /one c 195 1; cat </one; mknod /disk b 8 0; cat </disk; head -c0 </dev/zero && echo zero;"
        "cat </dev/caps/cap1; cat >>/dev/caps/cap1; mknod /nv c 195 0; cat </nv",
    )
    assert [line.rpartition(": ")[2] for line in said.splitlines()] == [
        DENIED,
        DENIED,
        "zero",
        NO_DEVICE,
        DENIED,
        NO_DEVICE,
    ]


def test_host_is_not_in_the_container(machine: Machine, engine: Engine) -> None:
    said = machine.started(engine, "cat /proc/self/mountinfo; ls /proc/self/fd")
    assert str(machine.canary) not in said
    assert os.fsdecode(machine.folder / "cdi") not in said
