# SPDX-License-Identifier: Apache-2.0
"""The lab does what tests of real engines will rely on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import cache, debian
from tests.lab.engines import CommandFailed, Device, Inside, Lab, LabError, LabUnavailableError
from tests.lab.podman import Podman
from tests.lab.probe import answers, changed, probe

pytest_plugins = ["tests.lab.fixtures"]
pytestmark = pytest.mark.engine

NODES = (Device("/dev/nvidia0", 195, 0), Device("/dev/nvidiactl", 195, 255, 0o660))


def node(path: str, major: int, minor: int, permissions: str = "rw") -> dict[str, object]:
    return {
        "path": path,
        "type": "c",
        "major": major,
        "minor": minor,
        "fileMode": 0o666,
        "permissions": permissions,
    }


SPEC = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [node("/dev/nvidia0", 195, 0)]}},
        {
            "name": "readable",
            "containerEdits": {"deviceNodes": [node("/dev/nvidia0", 195, 0, "r")]},
        },
    ],
    "containerEdits": {
        "env": ["FROM_CDI=a b"],
        "deviceNodes": [node("/dev/nvidiactl", 195, 255)],
        "mounts": [
            {
                "hostPath": "/opt/driver.txt",
                "containerPath": "/usr/share/driver.txt",
                "options": ["ro", "nosuid", "nodev", "rbind"],
            }
        ],
        "hooks": [
            {
                "hookName": "createRuntime",
                "path": "/usr/bin/python3",
                "args": ["python3", "-I", "-S", "-c", "open('/opt/hooked', 'a').write('x')"],
                "env": ["PATH=/usr/bin"],
            }
        ],
    },
}


@pytest.fixture(scope="module", params=debian.SMALL)
def lab(request: pytest.FixtureRequest, lab_of: Callable[[str], Lab]) -> Lab:
    return lab_of(request.param)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library that needs nothing, so that every loader can load it."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "empty.c").write_text("int answer = 42;\n", "ascii")
    command = ["cc", "-shared", "-nostdlib", "-o", "libfake.so", "empty.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "libfake.so"


@pytest.fixture(scope="module")
def inside(lab: Lab, library: Path, image_archives: dict[str, Path]) -> Iterator[Inside]:
    binds = {"/images.tar": image_archives["all"], "/opt/libfake.so": library}
    with lab.enter(binds=binds, devices=NODES) as inside:
        inside.write("/etc/cdi/nvidia.json", json.dumps(SPEC))
        inside.write("/opt/driver.txt", "driver\n")
        inside.write("/opt/hooked", "", mode=0o666)
        for user in (0, debian.USER):
            Podman(inside, user=user).load("/images.tar")
        yield inside


@pytest.fixture(
    params=[("crun", 0), ("runc", 0), ("crun", debian.USER)],
    ids=["crun", "runc", "rootless-crun"],
)
def podman(request: pytest.FixtureRequest, inside: Inside) -> Podman:
    runtime, user = request.param
    return Podman(inside, runtime=runtime, user=user)


@pytest.mark.parametrize("read_only", [False, True], ids=["", "read-only"])
@pytest.mark.parametrize("image", ["debian", "rhel", "alpine", "distroless"])
def test_a_cdi_device_is_seen_in_every_image(podman: Podman, image: str, read_only: bool) -> None:
    answer = podman.ask(
        image,
        ("stat", "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia1"),
        ("open", "/dev/nvidia0", "/dev/null"),
        ("env", "FROM_CDI", "NOT_FROM_CDI"),
        ("read", "/usr/share/driver.txt"),
        ("create", "/new"),
        options=["--device", "nvidia.com/gpu=0", *(["--read-only"] if read_only else [])],
    )
    assert answer["stat", "/dev/nvidia0"][0] == "c"
    assert answer["stat", "/dev/nvidia0"][-2:] == ("195", "0")
    assert answer["stat", "/dev/nvidiactl"][-2:] == ("195", "255")
    assert answer["stat", "/dev/nvidia1"] == ("ENOENT",)
    assert answer["open", "/dev/nvidia0"] == ("ENXIO",)  # allowed, but there is no driver
    assert answer["open", "/dev/null"] == ("ok",)
    assert answer["env", "FROM_CDI"] == ("set", "a b")
    assert answer["env", "NOT_FROM_CDI"] == ("unset",)
    assert answer["read", "/usr/share/driver.txt"] == ("driver\n",)
    assert answer["create", "/new"] == ("EROFS" if read_only else "ok",)


def test_control_groups_hold_a_device_to_its_permissions(podman: Podman) -> None:
    answer = podman.ask(
        "distroless",
        ("open", "/dev/nvidia0"),
        ("read", "/dev/nvidia0"),
        options=["--device", "nvidia.com/gpu=readable"],
    )
    # An unprivileged user has no device control group; only the node's owner and mode hold.
    assert answer["open", "/dev/nvidia0"] == ("ENXIO" if podman.user else "EPERM",)
    assert answer["read", "/dev/nvidia0"] == ("ENXIO",)


def test_a_hook_runs_with_the_root_s_own_python(podman: Podman) -> None:
    podman.inside.write("/opt/hooked", "", mode=0o666)
    podman.ask("distroless", ("ls", "/"), options=["--device", "nvidia.com/gpu=0"])
    assert podman.inside.read("/opt/hooked") == "x"


@pytest.mark.parametrize(
    ("image", "folder", "found"),
    [
        ("debian", "/usr/lib/x86_64-linux-gnu", True),
        ("debian", "/usr/lib64", False),
        ("distroless", "/usr/lib/x86_64-linux-gnu", True),
        ("distroless", "/usr/lib64", False),
        ("rhel", "/usr/lib64", True),
        ("rhel", "/usr/lib/x86_64-linux-gnu", False),
        ("alpine", "/usr/lib", True),
        ("alpine", "/usr/lib/x86_64-linux-gnu", False),
        ("alpine", "/usr/lib64", False),
    ],
)
def test_each_loader_looks_where_its_distribution_s_does(
    inside: Inside, image: str, folder: str, found: bool
) -> None:
    mount = f"/opt/libfake.so:{folder}/libfake.so:ro"
    answer = Podman(inside).ask(image, ("dlopen", "libfake.so"), options=["-v", mount])
    assert answer["dlopen", "libfake.so"][0] == ("ok" if found else "fail")


def test_ldconfig_of_the_glibc_images_finds_a_new_library(inside: Inside) -> None:
    for image, folder in (("debian", "/usr/lib/x86_64-linux-gnu"), ("rhel", "/usr/lib64")):
        mount = ["-v", f"/opt/libfake.so:{folder}/libfake.so.1:ro"]
        script = "/sbin/ldconfig && /sbin/ldconfig -p"
        ran = Podman(inside)("run", "--rm", *mount, f"localhost/{image}", "sh", "-c", script)
        assert f"{folder}/".removeprefix("/usr") + "libfake.so.1" in ran.stdout.replace("/usr", "")


def test_what_a_container_leaves_behind_is_seen(podman: Podman) -> None:
    nothing = probe(("ls", "/"))
    usual = podman.left_behind("distroless", *nothing)
    left = podman.left_behind("distroless", *nothing, options=["--device", "nvidia.com/gpu=0"])
    stub = left["/usr/share/driver.txt"]
    assert stub[0] == "f"
    assert stub[2] == "0"  # the mount point; the mounted file's text is not in it
    assert set(left) - set(usual) == {"/usr", "/usr/share", "/usr/share/driver.txt"}
    more = podman.left_behind("distroless", *probe(("create", "/new", "/etc/new")))
    assert set(more) - set(usual) == {"/new", "/etc/new"}


def test_find_tells_what_a_program_changed_in_its_container(inside: Inside) -> None:
    script = """
        /probe find / > /tmp/before
        echo more >> /etc/ld.so.conf; ln -s libc.so.6 /lib/libnew.so; rm /bin/tar; chmod 700 /root
        /probe find / > /tmp/after
        cat /tmp/before; echo ---; cat /tmp/after
    """
    ran = Podman(inside)("run", "--rm", "--tmpfs", "/tmp", "localhost/debian", "sh", "-c", script)
    before, after = (answers(printed) for printed in ran.stdout.split("---\n"))
    assert after["find", "/proc"][0] == "M"
    assert {path: found and found[0] for path, found in changed(before, after).items()} == {
        "/etc/ld.so.conf": "f",
        "/usr/lib/libnew.so": "l",
        "/usr/bin/tar": None,
        "/root": "d",
    }


def test_a_lab_on_control_groups_v2(lab: Lab, image_archives: dict[str, Path]) -> None:
    binds = {"/image.tar": image_archives["distroless"]}
    with lab.enter(binds=binds, devices=NODES, cgroup="v2") as v2:
        v2.write("/etc/cdi/nvidia.json", json.dumps(SPEC))
        v2.write("/opt/driver.txt", "driver\n")
        v2.write("/opt/hooked", "")
        podman = Podman(v2, runtime="runc")
        podman.load("/image.tar")
        options = ["--device", "nvidia.com/gpu=readable"]
        answer = podman.ask("distroless", ("open", "/dev/nvidia0"), options=options)
        assert answer["open", "/dev/nvidia0"] == ("EPERM",)


def test_a_fake_host_over_the_root(lab: Lab, tmp_path: Path) -> None:
    host = tmp_path / "host"
    for folder in ("etc/modprobe.d", "usr/bin", "dev/dri/by-path"):
        (host / folder).mkdir(parents=True)
    (host / "etc/hostname").write_text("gpu-host\n", "ascii")
    (host / "usr/bin/nvidia-smi").write_text("#!/bin/sh\necho no GPU\n", "ascii")
    (host / "usr/bin/nvidia-smi").chmod(0o755)
    card = host / "dev/dri/card0"
    os.mknod(card, stat.S_IFCHR | 0o600, os.makedev(226, 0))
    card.chmod(0o660)
    os.chown(card, 0, 44)
    (host / "dev/dri/by-path/pci-0000:3b:00.0-card").symlink_to("../card0")
    question = (
        "nvidia-smi; cat /etc/hostname; stat -c '%F %a %g %t:%T' /dev/dri/card0;"
        "readlink /dev/dri/by-path/*; test -e /usr/bin/podman && echo podman"
    )
    told = "character special file 660 44 e2:0\n../card0\npodman\n"
    whole = lab.run(["sh", "-c", question], layers=[host], dev_from=host)
    assert whole.stdout == f"no GPU\ngpu-host\n{told}"
    part = lab.run(
        ["sh", "-c", f"echo lab > /etc/hostname; {question}; touch /usr/bin/new"],
        layers=[(host / "usr", "/usr")],
        dev_from=host,
    )
    assert part.stdout == f"no GPU\nlab\n{told}"
    assert not (host / "usr/bin/new").exists()
    assert not (lab.root / "usr/bin/new").exists()


def test_a_later_layer_hides_an_earlier_one(lab: Lab, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc/who").write_text(name, "ascii")
    layers = [tmp_path / "one", tmp_path / "two"]
    assert lab.run(["cat", "/etc/who"], layers=layers).stdout == "two"
    layers.reverse()
    assert lab.run(["cat", "/etc/who"], layers=layers).stdout == "one"


def test_binds(lab: Lab, tmp_path: Path) -> None:
    host, results = tmp_path / "a host", tmp_path / "results"
    (host / "gpus").mkdir(parents=True)
    (host / "gpus/information").write_text("Model: fake\n", "ascii")
    results.mkdir()
    script = (
        "cat /run/nvidia/driver/gpus/information /proc/driver/nvidia/gpus/information;"
        "touch /run/nvidia/driver/new; echo done > /results/new"
    )
    ran = lab.run(
        ["sh", "-c", script],
        binds={"/run/nvidia/driver": host, "/proc/driver/nvidia": host},
        writable={"/results": results},
    )
    assert ran.stdout == "Model: fake\nModel: fake\n"
    assert "Read-only file system" in ran.stderr
    assert (results / "new").read_text("ascii") == "done\n"


def test_a_folder_under_the_root_shows_where_the_root_has_nothing(
    lab: Lab, tmp_path: Path, library: Path
) -> None:
    host = tmp_path / "host"
    for folder in ("etc", "opt/driver", "usr/lib/x86_64-linux-gnu"):
        (host / folder).mkdir(parents=True)
    (host / "etc/passwd").write_text("nobody of ours\n", "ascii")
    (host / "opt/driver/version").write_text("550\n", "ascii")
    shutil.copy(library, host / "usr/lib/x86_64-linux-gnu/libfake.so.1")
    question = "cat /opt/driver/version; id -un; ldconfig; ldconfig -p | grep -o 'libfake.*'"
    shown = lab.run(["sh", "-c", question], under=[host]).stdout
    assert shown.splitlines()[:2] == ["550", "root"]
    assert shown.endswith("=> /lib/x86_64-linux-gnu/libfake.so.1\n")


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": ["/no/such/folder"]},
        {"binds": {"/opt": "/no/such/folder"}},
        {"layers": [("/usr/lib", "/lib")]},
    ],
    ids=["no layer", "no bind", "a layer over a symlink"],
)
def test_what_cannot_be_is_refused(lab: Lab, wrong: dict[str, Any]) -> None:
    with pytest.raises(LabError):
        lab.run(["true"], **wrong)


def test_a_layer_that_would_hide_half_the_system_is_refused(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for wrong in ("layers", "under"):
        options: dict[str, Any] = {wrong: [tmp_path]}
        with pytest.raises(LabError, match="lay it over /usr/lib instead"):
            lab.run(["true"], **options)


def test_commands(lab: Lab) -> None:
    with lab.enter() as inside:
        assert inside.run(["cat"], stdin="é\n").stdout == "é\n"
        assert inside.run(["id", "-u"], user=debian.USER).stdout == f"{debian.USER}\n"
        assert inside.run(["false"], check=False).returncode == 1
        with pytest.raises(CommandFailed, match="some reason"):
            inside.run(["sh", "-c", "echo some reason >&2; exit 3"])
        with pytest.raises(LabError, match="no-such-program"):
            inside.run(["no-such-program"])
        begun = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            inside.run(["sh", "-c", "sleep 60; true"], timeout=0.2)
        assert time.monotonic() - begun < 10
        assert inside.run(["echo", "still here"]).stdout == "still here\n"


def groups_without_a_lab() -> list[Path]:
    # os.walk: other tests remove their groups meanwhile, which ends a walk of pathlib's.
    groups = [
        Path(parent, name)
        for parent, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith("cdi-gen-lab-")
    ]
    return [g for g in groups if not Path("/proc", g.name.rpartition("-")[2]).exists()]


def test_what_a_killed_lab_left_goes_with_the_next(lab: Lab) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    hierarchies = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    left = [each / f"cdi-gen-lab-{gone.pid}" for each in hierarchies if (each / "tasks").exists()]
    for group in left or [hierarchies[0] / f"cdi-gen-lab-{gone.pid}"]:
        (group / "engine").mkdir(parents=True)
    assert groups_without_a_lab()
    lab.run(["true"])
    assert not groups_without_a_lab()


def test_nothing_is_left_on_the_machine(lab: Lab) -> None:
    marker = f"{time.time_ns()}"
    script = "mkdir /sys/fs/cgroup/*/engine; (sleep 987654321; :) >/dev/null 2>&1 &"
    lab.run(["sh", "-c", script, marker], devices=[Device("/dev/only-in-the-lab", 195, 0)])
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            commands.append(path.read_bytes())
    assert not any(marker.encode() in command for command in commands)
    assert not Path("/dev/only-in-the-lab").exists()
    assert str(cache.home()) not in Path("/proc/self/mountinfo").read_text("utf-8")
    assert not groups_without_a_lab()


def test_two_labs_at_once_do_not_meet(lab: Lab) -> None:
    with lab.enter() as one, lab.enter() as two:
        one.write("/etc/who", "one")
        assert two.run(["test", "-e", "/etc/who"], check=False).returncode == 1


def test_a_failed_build_leaves_nothing_and_a_changed_recipe_builds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = []

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise LabUnavailableError("no network")

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "whole").touch()

    with pytest.raises(LabUnavailableError, match="no network"):
        cache.cached("thing", "recipe", fail)
    assert not list(cache.home().glob("thing*-*"))
    first = cache.cached("thing", "recipe", build)
    assert cache.cached("thing", "recipe", fail) == first
    assert os.listdir(first) == ["whole"]
    assert cache.cached("thing", "another recipe", build) != first
    assert len(built) == 2
