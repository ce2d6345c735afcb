# SPDX-License-Identifier: Apache-2.0
"""`docker run --gpus all`, as runc and crun see it: the prestart hook on real containers."""

from __future__ import annotations

import os
import stat

import pytest

from tests.prestart.machine import ABSENT, DENIED, LIBRARIES, LIBRARY, NO_DEVICE, Engine, Machine

pytestmark = pytest.mark.engine


def test_requested_nodes_can_be_opened(machine: Machine, engine: Engine) -> None:
    """ENXIO: the node is there and its control group has let it pass; no driver is behind it."""
    names = ("nvidia0", "nvidia1", "nvidiactl", "caps/cap1", "nvidia2")
    contents = machine.opens(engine, *names)
    assert contents == {**dict.fromkeys(names, NO_DEVICE), "nvidia2": ABSENT}


def test_variable_of_the_user_replaces_that_of_the_image(machine: Machine, engine: Engine) -> None:
    """`docker run --gpus device=1` of an image with ENV NVIDIA_VISIBLE_DEVICES=all."""
    machine.asks(
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=rubbish",
        "NVIDIA_VISIBLE_DEVICES=1",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    )
    assert machine.opens(engine, "nvidia0", "nvidia1") == {"nvidia0": ABSENT, "nvidia1": NO_DEVICE}
    output = machine.started(engine, "env | grep NVIDIA | sort")
    assert output == "NVIDIA_DRIVER_CAPABILITIES=compute,utility\nNVIDIA_VISIBLE_DEVICES=1\n"


def test_repeated_device_is_injected_once(machine: Machine, engine: Engine) -> None:
    machine.asks("NVIDIA_VISIBLE_DEVICES=" + ",".join(["1"] * 5000))
    assert machine.opens(engine, "nvidia0", "nvidia1") == {"nvidia0": ABSENT, "nvidia1": NO_DEVICE}


def test_library_is_loaded_and_mounted_once(program: Machine, engine: Engine) -> None:
    """Mounted, linked, and in the cache: the spec's own hook has run."""
    output = program.started(
        engine, "/bin/loads libcuda.so.1; grep -c libcuda /proc/self/mountinfo"
    )
    assert output == "libcuda.so.1=42\n1\n"


def test_mount_has_the_options_of_the_spec(machine: Machine, engine: Engine) -> None:
    output = machine.started(
        engine,
        f"grep -e ' {LIBRARY} ' -e firmware /proc/self/mountinfo | cut -d' ' -f6-7;"
        f"cat /usr/firmware/550/gsp.bin; echo x > /usr/firmware/550/gsp.bin; mount | grep -c odd",
    )
    # Field 7 is "-" where a mount tells nobody and is told by nobody.
    assert output.splitlines()[:2] == [
        "ro,nosuid,nodev,noexec,relatime -",
        "ro,nosuid,nodev,relatime -",
    ]
    assert "gsp" in output
    assert "Read-only file system" in output


def test_node_has_mode_and_owner_of_the_spec(machine: Machine, engine: Engine) -> None:
    machine.edits["deviceNodes"].append(machine.node("nvidia1", path="/dev/x/y", uid=7, gid=8))
    output = machine.started(
        engine, "stat -c '%n %a %u:%g %t:%T' /dev/nvidia0 /dev/caps/cap1 /dev/x/y; ls -ld /dev/x"
    )
    assert output.splitlines()[:3] == [
        "/dev/nvidia0 666 0:0 c3:0",
        "/dev/caps/cap1 440 0:0 ed:1",
        "/dev/x/y 666 7:8 c3:1",
    ]
    assert output.splitlines()[3].startswith("drwxr-xr-x")


def test_node_belongs_to_the_user_of_the_container(machine: Machine, engine: Engine) -> None:
    """As engines have it: uid and gid that the spec leaves open are the process's."""
    machine.spec["process"]["user"] = {"uid": 1000, "gid": 1001}
    assert machine.started(engine, "stat -c %u:%g /dev/nvidia0") == "1000:1001\n"


def test_read_only_container_gets_library_and_node(program: Machine, engine: Engine) -> None:
    program.spec["root"]["readonly"] = True
    output = program.started(engine, "/bin/loads libcuda.so.1; cat </dev/nvidia0; echo > /x")
    assert "libcuda.so.1=42" in output
    assert NO_DEVICE in output
    assert "Read-only file system" in output


def test_container_with_a_user_namespace_gets_library_and_node(
    program: Machine, engine: Engine
) -> None:
    """A node that is made in it could not be opened: it is a mount of the host's."""
    program.with_a_user_namespace()
    output = program.started(
        engine,
        "/bin/loads libcuda.so.1; cat </dev/nvidia0; grep -c ' /dev/nv' /proc/self/mountinfo",
    )
    assert "libcuda.so.1=42" in output
    assert NO_DEVICE in output
    assert output.endswith("3\n")
    for name in ("usr/lib/odd", "usr/firmware", "etc/ld.so.cache", "usr/lib/odd/libcuda.so.1"):
        status = (program.root / name).lstat()
        assert (status.st_uid, status.st_gid) == (100000, 100000), name


def test_second_start_of_a_root_file_system_works(program: Machine, engine: Engine) -> None:
    """`docker restart`: the mount points and links of the first are there."""
    program.started(engine)
    once = {p: p.lstat().st_mtime_ns for p in program.root.rglob("*") if not p.is_dir()}
    assert "42" in program.started(engine, "/bin/loads libcuda.so.1")
    assert {p: p.lstat().st_mtime_ns for p in program.root.rglob("*") if not p.is_dir()} == once


def test_only_mount_points_are_left_in_the_image(machine: Machine, engine: Engine) -> None:
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
def test_requested_devices_are_injected(
    machine: Machine, runc: Engine, variables: list[str], nodes: set[str]
) -> None:
    machine.asks(*variables)
    output = machine.started(runc, f"ls /dev; echo; ls {LIBRARY}")
    assert {name for name in output.split() if name.startswith("nvidia")} == nodes
    assert (ABSENT in output.lower()) is (not nodes)


def test_spec_is_not_read_without_a_request(machine: Machine, runc: Engine) -> None:
    """Every container of an engine may come by here."""
    machine.asks()
    machine.settings.write_text(
        '[nvidia-container-runtime]\nmode = "cdi"\n'
        '[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["/nowhere"]\n'
    )
    assert machine.started(runc, "ls /dev | grep -c nvidia") == "0\n"


def test_unknown_device_stops_the_container(machine: Machine, engine: Engine) -> None:
    machine.asks("NVIDIA_VISIBLE_DEVICES=7")
    machine.refused(engine, "nvidia.com/gpu has no device 7")


@pytest.mark.parametrize("groups", ["v1", "v2"])
def test_node_is_denied_without_a_rule_in_the_control_group(machine: Machine, groups: str) -> None:
    """The control of all that is output above about opening; and `no-cgroups` is honoured."""
    machine.configure("no-cgroups = true")
    assert machine.opens(Engine("runc", groups), "nvidia0") == {"nvidia0": DENIED}


@pytest.mark.parametrize("groups", ["v1", "v2"])
def test_devices_that_are_not_requested_stay_denied(machine: Machine, groups: str) -> None:
    """Neither another GPU, nor more of one than the spec says, nor less of what went before."""
    machine.asks("NVIDIA_VISIBLE_DEVICES=0")
    machine.edits["deviceNodes"].append(machine.node("caps/cap1", permissions="r"))
    del machine.edits["deviceNodes"][1]
    capabilities = machine.spec["process"]["capabilities"]
    for kind in capabilities:
        capabilities[kind] += ["CAP_MKNOD"]
    output = machine.started(
        Engine("runc", groups),
        "mknod /one c 195 1; cat </one; mknod /disk b 8 0; cat </disk; head -c0 </dev/zero && echo zero;"
        "cat </dev/caps/cap1; cat >>/dev/caps/cap1; mknod /nv c 195 0; cat </nv",
    )
    assert [line.rpartition(": ")[2] for line in output.splitlines()] == [
        DENIED,
        DENIED,
        "zero",
        NO_DEVICE,
        DENIED,
        NO_DEVICE,
    ]


def test_container_sees_no_paths_or_descriptors_of_the_host(
    machine: Machine, engine: Engine
) -> None:
    output = machine.started(engine, "cat /proc/self/mountinfo; ls /proc/self/fd")
    assert str(machine.canary) not in output
    assert os.fsdecode(machine.folder / "cdi") not in output


def test_memory_is_limited_for_the_prestart_hook_and_not_for_other_hooks_of_the_spec(
    machine: Machine, engine: Engine
) -> None:
    """Rule 7 of hooks/README.md: 512 MiB. The parent of a hook of the spec is the prestart hook."""
    limits = machine.folder / "limits"
    script = f"grep -h 'Max address space' /proc/$PPID/limits /proc/self/limits > {limits}"
    machine.edits["hooks"].append(
        {"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", script]}
    )
    machine.started(engine)
    soft_limits = [line.split()[3] for line in limits.read_text().splitlines()]
    assert soft_limits == [str(512 << 20), "unlimited"]
