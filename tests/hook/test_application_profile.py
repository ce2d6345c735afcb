# SPDX-License-Identifier: Apache-2.0
"""The step update-application-profile lists the container's GPUs for the driver's libraries."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from cdi_hook.steps import update_application_profile
from tests.hook.conftest import Container, fingerprint
from tests.hook.runtimes import Runtime, hook_of, in_a_user_namespace, start

NAME = "update-application-profile"
PROFILE = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"

NVIDIA = 195


def text(mask: int) -> str:
    return (
        '{"profiles":[{"name":"_container_","settings":["EGLVisibleDGPUDevices",'
        f"{mask:#x}]}}],"
        '"rules":[{"pattern":[],"profile":"_container_"}]}\n'
    )


def add(container: Container, name: str, minor: int, kind: int = stat.S_IFCHR) -> None:
    os.mknod(container.root / "dev" / name, kind | 0o666, os.makedev(NVIDIA, minor))


@pytest.mark.parametrize(
    ("minors", "mask"),
    [
        ([0], 0x1),
        ([3], 0x8),
        ([0, 1, 2, 3, 4, 5, 6, 7], 0xFF),
        ([63], 1 << 63),
        (range(64), 2**64 - 1),
        ([10, 2], 0x404),
    ],
)
def test_profile_has_a_bit_for_each_minor(
    container: Container, minors: list[int], mask: int
) -> None:
    for minor in minors:
        add(container, f"nvidia{minor}", minor)
    ended = container.hook(NAME)
    assert (ended.status, ended.said) == (0, "")
    assert container.read(PROFILE) == text(mask)
    assert stat.S_IMODE((container.root / PROFILE).stat().st_mode) == 0o644
    container.assert_host_untouched()


def test_the_driver_reads_json_with_hexadecimal_numbers() -> None:
    """The profile is JSON, except for its hexadecimal number."""
    content = update_application_profile.profile([0, 4]).decode().replace("0x11", "17")
    (profile,) = json.loads(content)["profiles"]
    assert profile["settings"] == ["EGLVisibleDGPUDevices", 17]
    assert json.loads(content)["rules"] == [{"pattern": [], "profile": profile["name"]}]


def test_minor_comes_from_the_node_and_not_from_its_name(container: Container) -> None:
    """Engines may rename a node; the driver uses its minor number."""
    add(container, "nvidia0", 5)
    assert container.hook(NAME).said == ""
    assert container.read(PROFILE) == text(1 << 5)


def test_minors_above_63(container: Container) -> None:
    for minor in (1, 64, 200):
        add(container, f"nvidia{minor}", minor)
    ended = container.hook(NAME)
    assert ended.status == 0
    assert ended.said == (
        f"cdi-gen-hook: {NAME}: /dev/nvidia200: left out: a profile cannot name a minor above 63 [CDG-K007]\n"
    )
    assert container.read(PROFILE) == text(2)


def test_nodes_that_are_not_of_gpus_are_ignored(both: Container) -> None:
    """Other nodes of the driver, and what an image may put there; nothing is opened."""
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia-caps", "nvidia", "nvidia1x"):
        add(both, name, 9)
    add(both, "nvidia1", 1, stat.S_IFBLK)
    os.mkfifo(both.root / "dev/nvidia2")
    (both.root / "dev/nvidia3").touch()
    (both.root / "dev/nvidia4").symlink_to("nvidia4")
    (both.root / "dev/nvidia5").symlink_to("/nowhere")
    (both.root / "dev/nvidia6").mkdir()
    add(both, "nvidia\uff17", 7)
    (both.root / "dev/nvidia8").symlink_to("/proc/self/fd/0")
    before = fingerprint(both.root)
    ended = both.hook(NAME)
    assert (ended.status, ended.said) == (0, "")
    assert fingerprint(both.root) == before


@pytest.mark.parametrize("kind", ["missing", "file", "link out"])
def test_container_without_dev_gets_no_profile(container: Container, kind: str) -> None:
    (container.root / "dev").rmdir()
    if kind == "file":
        (container.root / "dev").touch()
    if kind == "link out":
        os.mknod(container.canary / "dir/nvidia0", stat.S_IFCHR | 0o666, os.makedev(NVIDIA, 0))
        container.before = fingerprint(container.canary)
        (container.root / "dev").symlink_to(container.canary / "dir")
    ended = container.hook(NAME)
    assert (ended.status, ended.said) == (0, "")
    assert not (container.root / PROFILE).exists()
    container.assert_host_untouched()


def test_second_run_changes_nothing(container: Container) -> None:
    add(container, "nvidia0", 0)
    container.hook(NAME)
    once = fingerprint(container.root)
    assert container.hook(NAME).said == ""
    assert fingerprint(container.root) == once


def test_profile_of_other_gpus_is_replaced(container: Container) -> None:
    """An image that was committed from a container may have a profile of other GPUs."""
    add(container, "nvidia0", 0)
    container.hook(NAME)
    (container.root / "dev/nvidia0").unlink()
    add(container, "nvidia3", 3)
    assert container.hook(NAME).said == ""
    assert container.read(PROFILE) == text(8)


@pytest.mark.parametrize("target", ["etc/nvidia", "etc"])
def test_a_volume(both: Container, target: str) -> None:
    """A volume of the user is not changed."""
    add(both, "nvidia0", 0)
    (both.root / "etc/nvidia").mkdir()
    both.with_mounts(f"mount --bind {both.canary}/dir {both.root}/{target}")
    ended = both.hook(NAME)
    assert ended.status == 0
    assert (
        ended.said
        == f"cdi-gen-hook: {NAME}: '/{PROFILE}': the path is in a mount of its own: left out [CDG-K006]\n"
    )
    both.assert_host_untouched()


@pytest.mark.parametrize("way", ["etc/nvidia", "the folder", "the file"])
def test_links_of_the_image(both: Container, way: str) -> None:
    """Links to directories resolve inside the image; a link in place of the file is replaced."""
    add(both, "nvidia0", 0)
    folder = both.root / Path(PROFILE).parent
    match way:
        case "etc/nvidia":
            (both.root / "etc/nvidia").symlink_to(both.canary / "dir")
        case "the folder":
            folder.parent.mkdir()
            folder.symlink_to("/opt/odd")
        case "the file":
            folder.mkdir(parents=True)
            (both.root / PROFILE).symlink_to(both.canary / "file")
    ended = both.hook(NAME)
    both.assert_host_untouched()
    if way == "etc/nvidia":
        assert (ended.status, ended.said.count("\n")) == (1, 1)
        return
    assert (ended.status, ended.said) == (0, "")
    assert both.read(PROFILE if way == "the file" else "opt/odd/10-container.conf") == text(1)
    assert not (both.root / PROFILE).is_symlink()


@pytest.mark.engine
class TestInContainers:
    @staticmethod
    def prepare(bundle: Container, *minors: int) -> None:
        spec = bundle.spec
        spec["linux"]["devices"] = [
            {"path": f"/dev/nvidia{each}", "type": "c", "major": NVIDIA, "minor": each, "fileMode": 0o666}
            for each in minors
        ]  # fmt: skip
        spec["hooks"] = {"createContainer": [hook_of(bundle, "create-container", f"--{NAME}")]}
        spec["process"]["args"] = ["/bin/busybox", "cat", f"/{PROFILE}"]

    @pytest.mark.parametrize("readonly", [False, True])
    def test_the_containers_gpus(self, runtime: Runtime, bundle: Container, readonly: bool) -> None:
        self.prepare(bundle, 1, 3)
        bundle.spec["root"]["readonly"] = readonly
        ended = start(runtime, bundle)
        assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", text(0b1010))
        once = fingerprint(bundle.root / "etc")
        assert start(runtime, bundle).returncode == 0
        assert fingerprint(bundle.root / "etc") == once

    def test_without_a_gpu_no_profile_is_written(self, runtime: Runtime, bundle: Container) -> None:
        self.prepare(bundle)
        bundle.spec["process"]["args"] = ["/bin/busybox", "true"]
        assert start(runtime, bundle).returncode == 0
        assert not (bundle.root / PROFILE).exists()

    def test_a_volume(self, runtime: Runtime, bundle: Container) -> None:
        self.prepare(bundle, 0)
        spec = bundle.spec
        source = str(bundle.canary / "dir")
        spec["mounts"].append(
            {"destination": "/etc/nvidia", "type": "bind", "source": source, "options": ["rbind"]}
        )
        spec["process"]["args"] = ["/bin/busybox", "ls", "/etc/nvidia"]
        ended = start(runtime, bundle)
        assert (ended.returncode, ended.stdout) == (0, "")
        bundle.assert_host_untouched()

    def test_a_user_namespace(self, runtime: Runtime, bundle: Container) -> None:
        """In a user namespace engines bind-mount nodes, because mknod(2) needs the machine's root."""
        self.prepare(bundle)
        spec = bundle.spec
        node = bundle.bundle / "node"
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(NVIDIA, 2))
        spec["mounts"].append(
            {
                "destination": "/dev/nvidia2",
                "type": "bind",
                "source": str(node),
                "options": ["bind"],
            }
        )
        in_a_user_namespace(bundle, 65536)
        ended = start(runtime, bundle)
        assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", text(1 << 2))
        assert (bundle.root / PROFILE).stat().st_uid == 100000
