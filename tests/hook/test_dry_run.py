# SPDX-License-Identifier: Apache-2.0
"""--dry-run prints the changes of the real run, in the same order, on any root."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cdi_base.rootfs.rootfs import RootFs
from cdi_hook.dry_run import DryRunRootFs
from tests.hook.conftest import HOOK, HOOKS, Container, Ended, Library, fingerprint
from tests.hook.runtimes import open_to_others
from tests.hook.test_cuda_compat import COMPAT, DROP_IN, NOTE, Compat, compat

__all__ = ["compat"]

PROFILE = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"

WORDS = (
    "create-container",
    "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1",
    "--link", "libcuda.so.1::/opt/odd/libcuda.so",
    "--link", "../../opt/odd/libcuda.so.1::/new/folder/libcuda.so",
    "--link", "libabsent.so.1::/opt/odd/libabsent.so",
    "--host-driver-version=550.163.01",
    "--folder", "/opt/odd", "--folder", "/usr/lib/odder", "--folder", "/absent",
    "--disable-device-node-modification", "--update-application-profile",
    "--mode", "755", "--path", "/dev/dri",
)  # fmt: skip

CHANGES = ("write ", "link ", "remove ", "chmod ")


def reported(ended: Ended) -> tuple[list[str], list[str]]:
    """The changes that --debug reported, and the other lines."""
    lines = [line.removeprefix("cdi-gen-hook: ") for line in ended.said.splitlines()]
    changes = [line for line in lines if line.startswith(CHANGES)]
    return changes, [line for line in lines if line not in changes]


def changed(root: Path, before: dict[str, tuple[object, ...]]) -> set[str]:
    """The names that differ in a tree, except directories that only got a new entry."""
    after = fingerprint(root)
    new_folders = {n for n, facts in after.items() if n not in before and str(facts[0])[0] == "d"}
    return {
        name
        for name in (before.keys() | after.keys()) - new_folders
        if (before[name][0] if name in before else None) != (after[name][0] if name in after else None)
        or (before[name][3:4], before[name][6]) != (after[name][3:4], after[name][6])
    }  # fmt: skip


def real_names(container: Container, lines: list[str]) -> set[str]:
    """The paths of changes, without links on the way to them."""
    rootfs = RootFs(os.open(container.root, os.O_PATH))
    names = set()
    for line in lines:
        kind, first, *rest = line.split(" ")
        path = rest[0] if kind == "chmod" else first
        folder, _, name = path.rpartition("/")
        place = os.readlink(f"/proc/self/fd/{rootfs.find(folder)}")
        names.add(os.path.relpath(f"{place}/{name}", container.root))
    return names


def dry_run_then_run(container: Container, *words: str) -> list[str]:
    """Compare a dry run with the real run, then do another dry run; return the announced changes."""
    before = fingerprint(container.root)
    dry = container.hook("--dry-run", *words)
    assert fingerprint(container.root) == before
    announced = dry.stdout.splitlines()
    ended = container.hook("--debug", *words)
    changes, messages = reported(ended)
    assert messages == dry.said.replace("cdi-gen-hook: ", "").splitlines()
    assert ended.status == dry.status
    assert announced == changes
    assert real_names(container, announced) == changed(container.root, before)
    assert container.hook("--dry-run", *words).stdout == ""
    container.assert_host_untouched()
    return announced


@pytest.fixture
def furnished(container: Container, library: Library, compat: Compat) -> Container:
    """A container in which every step has something to do."""
    library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
    library(container.root / "usr/lib/odder/libnvidia-ml.so.1", "libnvidia-ml.so.1")
    compat(note=NOTE)
    (container.root / "dev/dri").mkdir(mode=0o700)
    os.mknod(container.root / "dev/nvidia0", stat.S_IFCHR | 0o666, os.makedev(195, 0))
    return container


@pytest.mark.parametrize("option", ["--dry-run", "--debug"])
def test_names_of_the_image_are_escaped(container: Container, option: str) -> None:
    """A name must not forge a line, or change the terminal of the administrator."""
    (container.root / "lib/ld-musl-x86_64.so.1").touch()
    folder = os.fsencode(container.root / "etc/cdi-gen/musl")
    os.makedirs(folder)
    for name in (b"a\nremove x", b"\x1b[31m", b"\xff", "\u202e".encode()):
        os.symlink(b"x", folder + b"/" + name)
    ended = container.hook(option, "update-ldcache", "--folder", "/usr/lib")
    removals = [
        line.removeprefix("cdi-gen-hook: ")
        for line in (ended.stdout + ended.said).splitlines()
        if "remove" in line
    ]
    assert sorted(removals) == [
        "remove /etc/cdi-gen/musl/\\u202e",
        "remove /etc/cdi-gen/musl/\\udcff",
        "remove /etc/cdi-gen/musl/\\x1b[31m",
        "remove /etc/cdi-gen/musl/a\\nremove x",
    ]


def test_all_steps_in_order(furnished: Container) -> None:
    assert dry_run_then_run(furnished, *WORDS) == [
        "link /opt/odd/libcuda.so.1 to libcuda.so.550.1",
        "link /opt/odd/libcuda.so to libcuda.so.1",
        "link /new/folder/libcuda.so to ../../opt/odd/libcuda.so.1",
        f"write /{DROP_IN}",
        "write /etc/ld.so.conf",
        "write /etc/ld.so.conf.d/00-cdi-gen.conf",
        "write /etc/ld.so.cache",
        f"write /{PROFILE}",
        "chmod 755 /dev/dri",
    ]


def test_a_dry_run_as_another_user_changes_nothing(furnished: Container) -> None:
    """A user without root privileges, on a tree of another user."""
    open_to_others(furnished)
    shutil.copytree(HOOKS, furnished.bundle / "libexec")
    furnished.launcher = [str(furnished.bundle / "libexec" / HOOK.name)]
    before = fingerprint(furnished.root)
    furnished.within = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    dry = furnished.hook("--dry-run", *WORDS)
    assert (dry.status, dry.said) == (0, "")
    furnished.within = []
    assert dry.stdout.splitlines() == reported(furnished.hook("--debug", *WORDS))[0]
    assert fingerprint(furnished.root) != before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("create-symlinks", ("--link", "x::/opt/x", "--link", "y::/opt/x", "--link", "y::/opt//x", "--link", "y::/new/a/y")),
        ("enable-cuda-compat", ("--host-driver-version=550.1",)),
        ("update-ldcache", ("--folder=/opt/odd",)),
        ("update-application-profile", ()),
        ("chmod", ("--mode=711", "--path=/dev/dri")),
    ],
)  # fmt: skip
def test_each_step(furnished: Container, name: str, words: tuple[str, ...]) -> None:
    if name == "create-symlinks":
        # One after another at the same place: a second start does it all again.
        assert (
            furnished.hook("--dry-run", name, *words).stdout.splitlines()
            == reported(furnished.hook("--debug", name, *words))[0]
        )
        return
    assert dry_run_then_run(furnished, name, *words)


def test_removals_are_announced(furnished: Container) -> None:
    furnished.hook(*WORDS)
    assert dry_run_then_run(furnished, *WORDS, "--host-gpu-brand=geforce") == [
        f"remove /{DROP_IN}",
        "write /etc/ld.so.cache",
    ]


def test_a_link_that_is_only_announced_is_followed(furnished: Container) -> None:
    """Also by another name of the directory; and the cache has the libraries behind the link."""
    (furnished.root / "opt/other").symlink_to("odd")
    words = (
        "create-container",
        "--link", "libcuda.so.550.1::/opt/other/libcuda.so.1",
        "--link", "/opt/odd/libcuda.so.1::/etc/libcuda",
        "--link", "libcuda.so.1::/opt/odd/libcuda.so", "--folder=/opt/odd",
    )  # fmt: skip
    assert len(dry_run_then_run(furnished, *words)) == 6
    # The cache of before, with the linker's name missing in it and in the folder.
    (furnished.root / "opt/odd/libcuda.so").unlink()
    furnished.hook("update-ldcache", "--folder=/opt/odd")
    assert dry_run_then_run(furnished, *words) == [
        "link /opt/odd/libcuda.so to libcuda.so.1",
        "write /etc/ld.so.cache",
    ]


@pytest.mark.parametrize(
    "commands",
    [
        "mkdir -p opt/odd/libcuda.so.1/within",
        "ln -s /nowhere new",
        "mkfifo etc/ld.so.conf",
        "ln -s /nowhere etc/ld.so.conf.d",
    ],
)
def test_an_error_of_the_run_is_an_error_of_the_dry_run(
    furnished: Container, commands: str
) -> None:
    subprocess.run(["sh", "-ec", commands], cwd=furnished.root, check=True)
    dry_run_then_run(furnished, *WORDS)
    assert furnished.hook("--dry-run", *WORDS).status == 1


def test_a_link_replaces_an_empty_directory(furnished: Container) -> None:
    (furnished.root / "opt/odd/libcuda.so.1").mkdir()
    assert "link /opt/odd/libcuda.so.1 to libcuda.so.550.1" in dry_run_then_run(furnished, *WORDS)


class Silent(DryRunRootFs):
    """A dry run that prints nothing."""

    def report_change(self, change: str) -> None:
        pass


TREE = "mkdir -p a/b c; ln -s a d; ln -s /c a/c; ln -s /nowhere n; ln -s b/f a/l; echo 1 > a/b/f; echo 2 > c/g"
FOLDERS = ("", "/a", "/a/b", "/c", "/d", "/d/c", "/n", "/new", "/new/deep", "/a/b/f")
NAMES = ("a", "f", "g", "l", "m", "new")
TEXTS = ("f", "../c/g", "/a/b/f", "m", "/new/f", "b/f", "g")


def above(path: str) -> list[str]:
    return [path[:at] for at, char in enumerate(path) if at and char == "/"]


def is_folder_or_missing(root: RootFs, path: str) -> bool:
    return root.is_directory(path) or not root.has(path)


@pytest.mark.parametrize("seed", range(40))
def test_a_dry_run_root_answers_as_the_changed_root(tmp_path: Path, seed: int) -> None:
    """After any changes the root of a dry run answers as a root that was changed does.

    Exceptions are what stops a hook, a file or a link to nowhere in the place of a directory, and what
    no step does: create a directory where it has removed a file.
    """
    chance = random.Random(seed)
    roots = []
    for name, kind in (("real", RootFs), ("dry", Silent)):
        (tmp_path / name).mkdir()
        subprocess.run(["sh", "-ec", TREE], cwd=tmp_path / name, check=True)
        roots.append(kind(os.open(tmp_path / name, os.O_PATH)))
    untouched = fingerprint(tmp_path / "dry")

    def answer(root: RootFs, question: tuple[Any, ...]) -> object:
        method, *arguments = question
        try:
            result = getattr(root, method)(*arguments)
        except OSError as error:
            return error.errno if method in {"put", "link", "remove"} else None
        if isinstance(result, os.stat_result):
            return stat.S_IFMT(result.st_mode), result.st_size if stat.S_ISREG(
                result.st_mode
            ) else 0
        return result

    for _ in range(60):
        path = f"{chance.choice(FOLDERS)}/{chance.choice(NAMES)}"
        call: tuple[Any, ...] = chance.choice(
            [
                ("put", path, chance.choice([b"", b"one\n", b"two\n"])),
                ("link", path, chance.choice(TEXTS)),
                ("has" if path in {"/a/b/f", "/new"} else "remove", path),
                ("has", path),
                ("status", path),
                ("read", path, 100),
                ("names", path.rpartition("/")[0] or "/"),
            ]
        )
        if not all(is_folder_or_missing(roots[0], folder) for folder in above(path)):
            continue
        one, other = (answer(root, call) for root in roots)
        assert one == other, call
    assert fingerprint(tmp_path / "dry") == untouched


def test_path_of_a_change_may_contain_planned_changes(tmp_path: Path) -> None:
    """A planned directory or link may be on the path of a later change."""
    subprocess.run(["sh", "-ec", TREE], cwd=tmp_path, check=True)
    root = Silent(os.open(tmp_path, os.O_PATH))
    assert root.put("/new/deep/f", b"one")
    assert root.link("/new/deep/up", "../../c/g")
    assert root.link("/new/folder", "/c")
    assert root.link("/new/turn", "folder/../a/b/f")
    assert root.read("/new/deep/up", 9) == b"2\n"
    assert root.read("/new/folder/g", 9) == b"2\n"
    assert root.read("/new/turn", 9) == b"1\n"
    assert root.put("/new/folder/g", b"three")
    assert root.read("/c/g", 9) == b"three"
    assert root.is_directory("/new/deep")
    assert not root.is_directory("/new/other")
    assert root.names("/new") == ["deep", "folder", "turn"]


ODD = ("libcuda.so.1", "libcuda.so", "libabsent.so")

CHOICES: tuple[tuple[str, ...], ...] = (
    ("", "rmdir opt/odd; mkdir -p srv/odd; ln -s ../srv/odd opt"),
    ("", "cp $LIBRARY opt/odd/libcuda.so.550.1", "cp $LIBRARY opt/odd/libcuda.so.550.1"),
    *(
        (
            "", "",
            f"ln -s libcuda.so.550.1 opt/odd/{name}",
            f"ln -s /opt/odd/libcuda.so.550.1 opt/odd/{name}",
            f"ln -s libcuda.so.1 opt/odd/{name}",
            f"touch opt/odd/{name}",
            f"cp $LIBRARY opt/odd/{name}",
            f"mkdir opt/odd/{name}" if name == "libabsent.so" else "",
        )
        for name in ODD
    ),
    ("", "echo 'include ld.so.conf.d/*.conf' > etc/ld.so.conf", "echo /opt/odd > etc/ld.so.conf", "ln -s /nowhere etc/ld.so.conf"),
    (
        "", "mkdir opt/conf.d; ln -s /opt/conf.d etc/ld.so.conf.d",
        f"mkdir etc/ld.so.conf.d; echo /opt/odd > etc/ld.so.conf.d/00-cdi-gen.conf; echo /other > {DROP_IN}",
        f"mkdir etc/ld.so.conf.d; echo {COMPAT} > {DROP_IN}",
        "mkdir etc/ld.so.conf.d; ln -s /nowhere etc/ld.so.conf.d/00-cdi-gen-compat.conf",
    ),
    ("", "", "", "ln -s /nowhere etc/ld.so.conf.d || :", "touch etc/ld.so.conf.d || :"),
    ("", "echo junk > etc/ld.so.cache", "ln -s /etc/hostname etc/ld.so.cache"),
    ("", f"touch lib/ld-musl-{os.uname().machine}.so.1"),
    ("", "cp $LIBRARY $COMPAT/libcuda.so.575.1", "cp $LIBRARY $COMPAT/libcuda.so.575.1; touch $COMPAT/libcuda.so.565.1"),
    ("", f"mkdir -p etc/nvidia/nvidia-application-profiles-rc.d; echo > {PROFILE}", "ln -s ../opt etc/nvidia", "touch etc/nvidia"),
    ("", "mknod dev/nvidia0 c 195 0", "mknod dev/nvidia0 c 195 0; mknod dev/nvidia7 c 195 7"),
    ("", "mkdir -m 700 dev/dri", "ln -s /etc dev/dri"),
)  # fmt: skip
"""What a root may have at each of the places that the steps look at, as commands that make it."""

VOLUMES = (
    "", "", "",
    "mount --bind $CANARY/dir $ROOT/etc",
    "mount --bind $CANARY/dir $ROOT/opt",
    "mount --bind $CANARY/dir $ROOT/usr/lib",
    "mount --bind $CANARY/file $ROOT/etc/ld.so.cache || :",
    "mount --bind $ROOT $ROOT; mount -o remount,bind,ro $ROOT",
    "mount --bind $ROOT $ROOT; mount --bind $CANARY/dir $ROOT/etc; mount -o remount,bind,ro $ROOT",
)  # fmt: skip


READ_ONLY_FILE_SYSTEM = """
cp -a $ROOT $ROOT.copy
mount -t tmpfs none $ROOT
cp -a $ROOT.copy/. $ROOT
rm -r $ROOT.copy
mount -o remount,ro $ROOT
"""
"""A file system that no hook can change, unlike a read-only mount."""


@pytest.mark.parametrize("volume", [*filter(None, VOLUMES), READ_ONLY_FILE_SYSTEM])
def test_volumes_and_special_files_are_not_changed(furnished: Container, volume: str) -> None:
    (furnished.root / "etc/ld.so.cache").touch()
    places = f"ROOT={furnished.root} CANARY={furnished.canary}\n"
    furnished.with_mounts(places + volume)
    dry_run_then_run(furnished, *WORDS)


@pytest.mark.parametrize("seed", range(24))
def test_dry_run_and_run_agree_on_generated_roots(
    container: Container, library: Library, seed: int
) -> None:
    library(container.bundle / "library", "libcuda.so.1")
    chance = random.Random(seed)
    places = (
        f"ROOT={container.root} CANARY={container.canary} LIBRARY={container.bundle}/library "
        f"COMPAT={COMPAT[1:]}\ncd $ROOT\n"
    )
    commands = ["mkdir -p $COMPAT", *map(chance.choice, CHOICES)]
    subprocess.run(["sh", "-ec", places + "\n".join(commands)], check=True, stderr=subprocess.PIPE)
    if chance.random() < 0.3:
        container.hook("update-ldcache", "--folder=/opt/odd")
    container.with_mounts(places + chance.choice(VOLUMES))
    dry_run_then_run(container, *WORDS)
