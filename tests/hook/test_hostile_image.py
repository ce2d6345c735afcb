# SPDX-License-Identifier: Apache-2.0
"""Images that were built to reach the host. Each row is an attack that once worked on a hook of this kind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.hook.conftest import Container, fingerprint

FULL = (
    "create-container",
    "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1",
    "--folder", "/opt/odd",
)  # fmt: skip


@pytest.fixture
def hostile(both: Container) -> Container:
    both.write("/opt/odd/libcuda.so.550.1")
    both.write("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    (both.root / "etc/ld.so.conf.d").mkdir()
    return both


def replace(place: Path, text: str | Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(text)


def ways_to(folder: Path) -> dict[str, str]:
    return {
        "absolute": str(folder),
        "relative": "../" * 30 + str(folder)[1:],
        "magic": f"/proc/self/root{folder}",
        "proc 1": f"/proc/1/root{folder}",
        "descriptor": "/proc/self/fd/3",
        "dev fd": "/dev/fd/3",
        "cwd": "/proc/self/cwd",
    }


@pytest.mark.parametrize("way", ways_to(Path("/x")))
@pytest.mark.parametrize(
    "place",
    [
        "etc",
        "etc/ld.so.conf.d",
        "usr",
        "usr/lib",
        "lib",
        "opt",
        "opt/odd",
        "run",
        "tmp",
        "dev",
        "proc",
        "sys",
    ],
)
def test_a_folder_that_is_a_link_out(hostile: Container, place: str, way: str) -> None:
    """A12, A13, A14, A15; CVE-2025-23267."""
    replace(hostile.root / place, ways_to(hostile.canary / "dir")[way])
    ended = hostile.hook(*FULL)
    hostile.assert_host_untouched()
    assert ended.status in {0, 1}
    assert ended.said.count("\n") <= 2


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "device", "folder"])
@pytest.mark.parametrize(
    "name",
    ["ld.so.cache", "ld.so.cache~", "ld.so.conf.d/00-cdi-gen.conf", "../opt/odd/libcuda.so.1"],
)
def test_a_file_of_ours_that_is_something_else(hostile: Container, name: str, kind: str) -> None:
    """A20."""
    place = hostile.root / "etc" / name
    match kind:
        case "link":
            place.symlink_to(hostile.canary / "file")
        case "hard link":
            os.link(hostile.canary / "file", place)
            hostile.before = fingerprint(hostile.canary)
        case "pipe":
            os.mkfifo(place)
        case "device":
            os.mknod(place, 0o020666, os.makedev(10, 130))
        case "folder":
            place.mkdir()
    ended = hostile.hook(*FULL)
    if kind == "hard link":
        # That its last other name went shows in ctime and nothing else.
        assert (hostile.canary / "file").read_text() == "untouched\n"
    else:
        hostile.assert_host_untouched()
    if name.endswith("~"):
        assert ended.status == 0
    elif kind == "folder":
        assert (ended.status, ended.said.count("\n")) == (1, 1)
        assert ended.said.endswith("Is a directory\n")
    else:
        assert (ended.status, ended.said) == (0, "")
    assert not list(hostile.root.rglob(".cdi-gen-*"))


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "sparse"])
@pytest.mark.parametrize(
    "name",
    [
        "etc/ld.so.conf",
        "etc/ld.so.conf.d/x.conf",
        "etc/debian_version",
        "lib/libfake.so.1",
        "opt/odd/libz.so.1",
    ],
)
def test_what_would_hang_is_not_opened(hostile: Container, name: str, kind: str) -> None:
    """A35, A37: a pipe blocks whoever opens it, opening a watchdog's node would arm it."""
    place = hostile.root / name
    place.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "link to a pipe":
            os.mkfifo(hostile.root / "a-pipe")
            place.symlink_to("/a-pipe")
        case "device":
            os.mknod(place, 0o020666, os.makedev(10, 130))
        case "sparse":
            place.touch()
            os.truncate(place, 1 << 40)
    ended = hostile.hook(*FULL)
    assert ended.seconds < 5
    if name == "etc/ld.so.conf":
        assert ended.status == 1
        assert ended.said.startswith("cdi-gen-hook: update-ldcache: '/etc/ld.so.conf': ")
    else:
        assert ended.status == 0


def test_names_that_are_taken(hostile: Container) -> None:
    """A21."""
    for number in range(2000):
        (hostile.root / f"etc/.cdi-gen-{number:016x}").symlink_to(hostile.canary / "file")
    assert hostile.hook(*FULL).status == 0
    hostile.assert_host_untouched()


def test_modules_in_the_folder_it_is_started_in(hostile: Container) -> None:
    """A05: the folder is the image's root."""
    poison = f"open({str(hostile.canary / 'file')!r}, 'w').write('imported')\n"
    for name in (
        "json",
        "os",
        "_json",
        "select",
        "resource",
        "fcntl",
        "struct",
        "sitecustomize",
        "usercustomize",
    ):
        hostile.write(f"/{name}.py", poison)
    for package in ("ctypes", "encodings", "cdi_hook", "cdi_gen"):
        hostile.write(f"/{package}/__init__.py", poison)
    assert hostile.hook(*FULL).status == 0
    hostile.assert_host_untouched()


def test_programs_of_the_image(hostile: Container) -> None:
    """A08."""
    for folder in ("bin", "sbin", "usr/bin", "usr/sbin"):
        for name in ("sh", "env", "ldconfig", "ldconfig.real", "mount", "python3", "true"):
            program = f"#!/bin/sh\necho run > {hostile.canary}/file\n"
            hostile.write(f"/{folder}/{name}", program).chmod(0o755)
    assert hostile.hook(*FULL, environment={"PATH": "bin:/usr/sbin:/usr/bin"}).status == 0
    hostile.assert_host_untouched()


@pytest.mark.parametrize("spelling", ["/", "//", "/.", "/../", "link", "bind mount"])
@pytest.mark.parametrize("by", ["state", "config"])
def test_the_root_is_the_hosts(hostile: Container, spelling: str, by: str) -> None:
    """A11."""
    (hostile.bundle / "link").symlink_to("/")
    (hostile.bundle / "bound").mkdir()
    path = {"link": f"{hostile.bundle}/link", "bind mount": f"{hostile.bundle}/bound"}.get(
        spelling, spelling
    )
    if spelling == "bind mount":
        hostile.with_mounts(f"mount --bind / {hostile.bundle}/bound")
    stdin = hostile.state()
    if by == "state":
        stdin = stdin[:-1] + b', "root": "' + path.encode() + b'"}'
    else:
        (hostile.bundle / "config.json").write_text(f'{{"root": {{"path": "{path}"}}}}')
    ended = hostile.hook("create-symlinks", "--link", f"x::{hostile.canary}/dir/x", stdin=stdin)
    assert ended.status == 1
    assert (
        ended.said
        == "cdi-gen-hook: create-symlinks: the container's root is the host's root: refused\n"
    )
    hostile.assert_host_untouched()


def test_the_whole_host_read_only(hostile: Container) -> None:
    """O-RO: one run that proves that nothing outside of the container's root is written."""
    hostile.with_mounts(
        f"mount --make-rprivate /; mount --bind {hostile.root} {hostile.root}; mount -o remount,bind,ro /"
    )
    ended = hostile.hook(*FULL)
    assert (ended.status, ended.said) == (0, "")
    assert (hostile.root / "etc/ld.so.cache").exists()


@pytest.mark.parametrize("program", ["/sbin/ldconfig", None])
def test_only_python_and_the_copy_of_ldconfig_are_run(
    hostile: Container, tmp_path: Path, program: str | None
) -> None:
    """O-EXEC, O-OPEN, with strace; and no program at all where none is named."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    trace = tmp_path / "trace"
    os.mkfifo(hostile.root / "etc/ld.so.conf.d/pipe.conf")
    calls = "execve,execveat,open,openat,openat2,mknodat,mkdirat,symlinkat,renameat,renameat2,unlinkat,linkat"
    hostile.within = ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={calls}"]
    words = ("--ldconfig-path", program) if program else ()
    assert hostile.hook(*FULL, *words).status == 0
    lines = trace.read_text().splitlines()
    run = [line for line in lines if "exec" in line.split("(")[0]]
    assert [line for line in run if "execve(" in line][1:] == []
    assert all("</memfd:ldconfig>" in line for line in run if "execveat(" in line)
    assert any("execveat(" in line for line in run) == bool(program)
    pipes = [line for line in lines if "pipe.conf" in line and "O_PATH" not in line]
    assert [line for line in pipes if "open" in line] == []
    writes = (
        "mknodat",
        "mkdirat",
        "symlinkat",
        "renameat",
        "unlinkat",
        "linkat",
        "O_WRONLY",
        "O_RDWR",
        "O_CREAT",
    )
    for line in lines:
        if (
            any(word in line for word in writes)
            and " = -1 " not in line
            and '"/dev/null"' not in line
        ):
            assert (
                str(hostile.root) in line
                or '"conf"' in line
                or "/proc/" in line
                or '"/proc/cache~"' in line
            ), line


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_hang_on_the_umask(hostile: Container, umask: int) -> None:
    """A61."""
    shutil.rmtree(hostile.root / "etc")
    (hostile.root / "etc").mkdir(mode=0o755)
    assert hostile.hook(*FULL, umask=umask).status == 0
    modes = {
        path.name: oct(path.stat().st_mode & 0o7777) for path in (hostile.root / "etc").rglob("*")
    }
    assert modes == {
        "ld.so.cache": "0o644",
        "ld.so.conf": "0o644",
        "ld.so.conf.d": "0o755",
        "00-cdi-gen.conf": "0o644",
    }


def test_a_full_root(container: Container) -> None:
    """A45: the old cache stays, no litter."""
    container.with_mounts(
        f"mount -t tmpfs -o size=16k,nr_inodes=20 none {container.root};"
        f"cd {container.root}; mkdir etc proc odd; echo old > etc/ld.so.cache;"
        "head -c 100000 /dev/zero > fill 2>/dev/null || :",
        "echo exit $status; cat etc/ld.so.cache; ls -A etc",
    )
    ended = container.hook("update-ldcache", "--folder", "/odd")
    assert "No space left on device" in ended.said
    assert ended.stdout.startswith("exit 1\nold\n")
    assert ".cdi-gen-" not in ended.stdout
