# SPDX-License-Identifier: Apache-2.0
"""The step create-symlinks: the links that it creates, and the paths where it creates none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hook.conftest import Container, fingerprint

NVIDIA = "/usr/lib/x86_64-linux-gnu"


def test_link_is_created_only_if_its_target_exists(both: Container) -> None:
    both.write(f"{NVIDIA}/libcuda.so.550.1")
    ended = both.hook(
        "create-container",
        "--link", f"libcuda.so.550.1::{NVIDIA}/libcuda.so.1",
        f"--link=libcuda.so.1::{NVIDIA}/libcuda.so",
        "--link", f"libnvidia-gone.so.550.1::{NVIDIA}/libnvidia-gone.so.1",
    )  # fmt: skip
    assert (ended.status, ended.said) == (0, "")
    links = {p.name: os.readlink(p) for p in (both.root / NVIDIA[1:]).iterdir() if p.is_symlink()}
    assert links == {"libcuda.so.1": "libcuda.so.550.1", "libcuda.so": "libcuda.so.1"}
    assert not (both.root / "etc/ld.so.cache").exists()


def test_relative_target_starts_at_the_links_directory(both: Container) -> None:
    """The directory of the gbm backend is often not in the image."""
    both.write(f"{NVIDIA}/libnvidia-allocator.so.1")
    both.write("/top.so")
    ended = both.hook(
        "create-container",
        "--link", f"../libnvidia-allocator.so.1::{NVIDIA}/gbm/nvidia-drm_gbm.so",
        "--link", f"../not-there.so::{NVIDIA}/other/x.so",
        "--link", "../../../top.so::/new/a/b/top.so",
        "--link", "/usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.1::/opt/abs.so",
    )  # fmt: skip
    assert (ended.status, ended.said) == (0, "")
    folder = both.root / NVIDIA[1:]
    library = folder / "libnvidia-allocator.so.1"
    assert (folder / "gbm/nvidia-drm_gbm.so").resolve(strict=True) == library
    assert (both.root / "new/a/b/top.so").resolve(strict=True) == both.root / "top.so"
    assert os.readlink(both.root / "opt/abs.so") == f"{NVIDIA}/libnvidia-allocator.so.1"
    assert not (both.root / NVIDIA[1:] / "other").exists()


def test_target_is_resolved_through_links_of_the_image(both: Container) -> None:
    (both.root / "lib64").symlink_to("/usr/real")
    both.write("/usr/real/lib.so.1")
    both.write("/usr/up.so")
    ended = both.hook(
        "create-container",
        "--link", "lib.so.1::/lib64/lib.so",
        "--link", "../up.so::/lib64/up.so",
    )  # fmt: skip
    assert ended.status == 0
    assert sorted(os.listdir(both.root / "usr/real")) == ["lib.so", "lib.so.1", "up.so"]


def test_create_symlinks_alone_creates_dangling_links(both: Container) -> None:
    """NVIDIA's hook of the same name does not check the target either."""
    ended = both.hook("create-symlinks", "--link", "nowhere.so.1::/opt/made/nowhere.so")
    assert ended.status == 0
    assert os.readlink(both.root / "opt/made/nowhere.so") == "nowhere.so.1"


def test_a_second_start_changes_nothing(both: Container) -> None:
    both.write("/opt/odd/lib.so.1")
    words = (
        "create-container",
        "--link",
        "lib.so.1::/opt/odd/lib.so",
        "--link",
        "../lib.so.1::/opt/odd/n/x",
    )
    both.hook(*words)
    once = fingerprint(both.root)
    assert both.hook(*words).status == 0
    assert fingerprint(both.root) == once


def test_a_file_or_link_at_the_path_is_replaced(both: Container) -> None:
    both.write("/opt/odd/lib.so.2")
    both.write("/opt/odd/file", "a stub of the image")
    (both.root / "opt/odd/old").symlink_to("lib.so.1")
    ended = both.hook(
        "create-container", "--link", "lib.so.2::/opt/odd/file", "--link", "lib.so.2::/opt/odd/old"
    )
    assert ended.status == 0
    assert {os.readlink(both.root / "opt/odd" / name) for name in ("file", "old")} == {"lib.so.2"}


def test_file_is_not_replaced_by_a_link_to_itself(both: Container) -> None:
    both.write("/opt/odd/lib.so", "the library")
    (both.root / "opt/alias").symlink_to("odd")
    ended = both.hook(
        "create-container",
        "--link",
        "lib.so::/opt/odd/lib.so",
        "--link",
        "/opt/odd/lib.so::/opt/alias/lib.so",
    )
    assert ended.status == 0
    assert both.read("/opt/odd/lib.so") == "the library"


def test_a_directory_stops_the_container(both: Container) -> None:
    (both.root / "opt/odd/dir/within").mkdir(parents=True)
    ended = both.hook("create-symlinks", "--link", "x::/opt/odd/dir")
    assert ended.status == 1
    assert (
        ended.said == "cdi-gen-hook: create-symlinks: '/opt/odd/dir': Is a directory [CDG-X003]\n"
    )
    assert os.listdir(both.root / "opt/odd") == ["dir"]


def test_an_empty_directory_is_replaced(both: Container) -> None:
    """Docker creates one for a volume whose source is missing. NVIDIA's hook 1.20.2 fails on it."""
    (both.root / "opt/odd/dir").mkdir()
    ended = both.hook("create-symlinks", "--link", "x::/opt/odd/dir")
    assert (ended.status, ended.said) == (0, "")
    assert os.readlink(both.root / "opt/odd/dir") == "x"


@pytest.mark.parametrize(
    "link",
    [
        "x", "x::", "::/a", "x::a", "x::/", "x::.", "x::/a/", "x::/a/.", "x::/a/..", "x::y::z", "x::/y::z",
        "x::/a/../../../srv/canary/l", "x::/..", "x\n::/a", "x::/a\nb", "x::/a\x7f", "y" * 5000 + "::/a", "",
    ],
)  # fmt: skip
def test_invalid_link_is_wrong_usage(container: Container, link: str) -> None:
    before = fingerprint(container.root)
    ended = container.hook("create-symlinks", "--link", "fine::/opt/fine", "--link", link)
    assert ended.status == 2
    assert ended.said.count("\n") == 1
    assert fingerprint(container.root) == before


PARENTS = ["etc", "usr", "usr/lib", "lib", "run", "tmp", "dev", "proc", "sys", "opt", "opt/odd"]


@pytest.mark.parametrize("way", ["absolute", "relative", "in the root", "magic"])
@pytest.mark.parametrize("parent", PARENTS)
def test_no_directory_of_the_link_leads_out_of_the_root(
    both: Container, parent: str, way: str
) -> None:
    """CVE-2024-0134: the directory of the link is itself a link of the image."""
    target = both.root / parent
    for folder in sorted(target.rglob("*"), reverse=True):
        folder.rmdir()
    target.rmdir()
    outside = str(both.canary / "dir")
    text = {
        "absolute": outside,
        "relative": "../" * 40 + outside[1:],
        "in the root": "/elsewhere/dir",
        "magic": f"/proc/self/root{outside}",
    }[way]
    if way == "in the root":
        (both.root / "elsewhere/dir").mkdir(parents=True)
    target.symlink_to(text)
    both.write("/there")
    ended = both.hook(
        "create-container", "--link", f"/there::/{parent}/x", "--link", f"/there::/{parent}/a/b"
    )
    both.assert_host_untouched()
    if way == "in the root":
        assert ended.status == 0
        assert os.readlink(both.root / "elsewhere/dir/x") == "/there"
    else:
        assert ended.status == 1
        assert ended.said.count("\n") == 1


def test_no_link_is_created_in_a_volume(both: Container, tmp_path: Path) -> None:
    """Nothing is written below a mount of the user, whichever link of the image leads there."""
    both.write("/there")
    both.write("/opt/file", "volume")
    (both.root / "opt/to-volume").symlink_to("odd")
    both.with_mounts(
        f"mount --bind {both.canary}/dir {both.root}/opt/odd;"
        f"mount --bind {both.canary}/file {both.root}/opt/file"
    )
    ended = both.hook(
        "create-container",
        "--link", "/there::/opt/odd/x",
        "--link", "/there::/opt/to-volume/y",
        "--link", "/there::/opt/odd/new/z",
        "--link", "/there::/opt/file",
        "--link", "/there::/opt/fine",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.said.count("not changed: the path is in a mount of its own") == 4
    assert os.listdir(both.canary / "dir") == []
    both.assert_host_untouched()
    assert (both.root / "opt/fine").is_symlink()


FULL = ("create-container", "--link", "/there::/opt/odd/x", "--folder", "/opt/odd")


def test_a_read_only_file_system_is_left_with_two_lines(both: Container) -> None:
    both.with_mounts(
        f"mount -t tmpfs none {both.root}; cd {both.root}; mkdir -p etc proc opt/odd; touch there;"
        f"mount -o remount,ro {both.root}"
    )
    ended = both.hook(*FULL)
    assert ended.status == 0
    assert [line.partition(": left out")[0] for line in ended.said.splitlines()] == [
        "cdi-gen-hook: create-symlinks: '/opt/odd/x': the container's root file system is read-only",
        "cdi-gen-hook: update-ldcache: '/etc/ld.so.conf': the container's root file system is read-only",
    ]


def test_a_read_only_container_gets_the_same(both: Container) -> None:
    """crun makes the root read-only before the hooks; it stays read-only for other processes."""
    both.write("/there")
    both.write("/etc/ld.so.conf", "")
    both.with_mounts(
        f"mount --bind {both.root} {both.root}; mount -o remount,bind,ro {both.root};"
        f"mount --bind {both.canary}/dir {both.root}/usr",
        f"touch {both.root}/etc/not 2>&1 || :; grep -c ' {both.root} ' /proc/self/mountinfo",
    )
    ended = both.hook(*FULL, "--link", "/there::/usr/x", "--link", "/there::/usr/new/x")
    assert ended.said.count("in a mount of its own") == 2
    assert ended.stdout.endswith(f"{both.root}/etc/not': Read-only file system\n1\n")
    assert os.readlink(both.root / "opt/odd/x") == "/there"
    assert (both.root / "etc/ld.so.cache").exists()
    both.assert_host_untouched()
    assert list((both.root / "usr").rglob("x")) == []


BY_PATH = "/dev/dri/by-path/pci-0000:3b:00.0-card"


@pytest.mark.parametrize(
    ("before", "made"),
    [
        ("mount -t tmpfs none $R/dev", True),
        ("mkdir $R/../v; mount -t tmpfs none $R/../v; mount --bind $R/../v $R/dev", False),
        ("mount --bind $R/../../canary/dir $R/dev", False),
    ],
    ids=["engine's", "a volume", "a folder of the host"],
)
def test_a_link_in_dev(both: Container, before: str, made: bool) -> None:
    """Specs of nvidia-ctk request links in /dev, which is a tmpfs of the engine."""
    words = ("create-symlinks", "--link", f"../card1::{BY_PATH}")
    after = f'readlink "$R{BY_PATH}" >&2 || :\nexit "$status"'
    both.with_mounts(f"R={both.root}\n{before}", after)
    ended = both.hook(*words)
    assert ended.status == 0
    if made:
        assert ended.said == "../card1\n"
    else:
        assert ended.said == (
            f"cdi-gen-hook: create-symlinks: '{BY_PATH}': not changed: the path is in a mount of its own [CDG-K105]\n"
        )
    both.assert_host_untouched()


def test_a_dry_run_names_a_link_in_dev_as_the_container_will(container: Container) -> None:
    container.with_mounts(f"mount -t tmpfs none {container.root}/dev")
    ended = container.hook("--dry-run", "create-symlinks", "--link", f"../card1::{BY_PATH}")
    assert (ended.status, ended.stdout) == (0, f"link {BY_PATH} to ../card1\n")


def test_link_that_replaces_the_directory_of_others(both: Container) -> None:
    """A directory is resolved once for many links, and again after a link on its path has changed."""
    for name in ("a", "b"):
        (both.root / "opt" / name).mkdir()
    (both.root / "opt/way").symlink_to("a")
    ended = both.hook(
        "create-symlinks", "--link", "x::/opt/way/one", "--link", "b::/opt/way", "--link", "x::/opt/way/two"
    )  # fmt: skip
    assert (ended.status, ended.said) == (0, "")
    assert os.listdir(both.root / "opt/a") == ["one"]
    assert os.listdir(both.root / "opt/b") == ["two"]


def test_link_that_leads_to_its_target_is_kept_whatever_its_text(both: Container) -> None:
    both.write("/opt/odd/libx.so.5")
    (both.root / "opt/odd/libx.so.1").symlink_to("/opt/odd/libx.so.5")
    ended = both.hook("create-container", "--link", "libx.so.5::/opt/odd/libx.so.1")
    assert (ended.status, ended.said) == (0, "")
    assert os.readlink(both.root / "opt/odd/libx.so.1") == "/opt/odd/libx.so.5"
