# SPDX-License-Identifier: Apache-2.0
"""Configurations of engines as files: owners, links, backups, and others who change them (A54)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.engines.change import configuration_file, replacement
from cdi_gen.errors import CdiGenError, UnsafeError
from tests.attack.engine_configuration import configure, unconfigure
from tests.cli.program import CHECKOUT, ENVIRONMENT, failure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_owner_mode_and_attributes_stay(etc: Path, mode: int) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_text("{}\n")
    path.chmod(mode)
    os.chown(path, 1000, 1001)
    attributes = {"user.note": b"mine"}
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError:  # a file system that has none
        attributes = {}
    done = configure(path)
    assert done.code == 0
    assert "belongs to user 1000: a user who can edit the file can run programs as root" in done.err
    for each in (path, Path(f"{path}.cdi-gen.bak")):
        status = each.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1000, 1001, mode)
        assert {name: os.getxattr(each, name) for name in os.listxattr(each)} == attributes
    assert unconfigure(path).code == 0
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (1000, mode)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_symbolic_link_is_followed_and_stays(etc: Path, absolute: bool) -> None:
    """A54."""
    target = etc / "real" / "docker.json"
    target.parent.mkdir()
    target.write_text("{}\n")
    path = etc / "daemon.json"
    path.symlink_to(target if absolute else "real/docker.json")
    assert configure(path).code == 0
    assert path.is_symlink()
    assert json.loads(target.read_text()) == {"features": {"cdi": True}}
    assert Path(f"{target}.cdi-gen.bak").read_text() == "{}\n"
    assert unconfigure(path).code == 0
    assert path.is_symlink()
    assert target.read_text() == "{}\n"


def test_a_hard_link_is_told_of(etc: Path) -> None:
    """A54: the other name keeps what it had."""
    path = etc / "daemon.json"
    path.write_text("{}\n")
    os.link(path, etc / "other.json")
    done = configure(path)
    assert done.code == 0
    assert f"{path} has 2 hard links" in done.err
    assert (etc / "other.json").read_text() == "{}\n"
    assert path.read_text() != "{}\n"


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "loop", "socket"])
def test_what_is_no_file_is_refused(etc: Path, kind: str) -> None:
    """A54."""
    path = etc / "daemon.json"
    make: dict[str, Callable[[], object]] = {
        "directory": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: os.mknod(path, 0o020666, os.makedev(1, 5)),
        "loop": lambda: path.symlink_to(path),
        "socket": lambda: os.mknod(path, 0o140666),
    }
    make[kind]()
    assert str(path) in failure(configure(path), 1)
    assert os.listdir(etc) == ["daemon.json"]


def test_a_directory_that_others_can_write_to_is_refused(etc: Path) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_text("{}\n")
    for mode, owner in ((0o777, 0), (0o755, 1000)):
        etc.chmod(mode)
        os.chown(etc, owner, 0)
        assert "is not changed" in failure(configure(path), 7)
        assert unconfigure(path).code == 0  # there is nothing to take back
        assert path.read_text() == "{}\n"
        assert os.listdir(etc) == ["daemon.json"]


def test_a_link_into_a_directory_of_others_is_refused(etc: Path, tmp_path: Path) -> None:
    """A54."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "daemon.json").write_text("{}\n")
    os.chown(theirs, 1000, 1000)
    path = etc / "daemon.json"
    path.symlink_to(theirs / "daemon.json")
    assert "theirs belongs to user 1000" in failure(configure(path), 7)
    path.unlink()
    path.symlink_to("between")
    (etc / "between").symlink_to(theirs / "daemon.json")
    assert "theirs belongs to user 1000" in failure(configure(path), 7)
    assert (theirs / "daemon.json").read_text() == "{}\n"


def test_a_program_that_others_can_change_is_not_registered(etc: Path, tmp_path: Path) -> None:
    shim = tmp_path / "shim"
    shim.write_text("#!/bin/sh\n")
    shim.chmod(0o777)
    told = failure(configure(etc / "daemon.json", "--runtime-path", str(shim)), 7)
    assert "is not safe for an engine to run" in told
    assert os.listdir(etc) == []


def _changed_meanwhile(path: Path, how: str) -> None:
    if how == "written":
        path.write_text('{"theirs": 1}')
    elif how == "same-size":
        status = path.stat()
        path.write_text('{"a": 2}\n')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif how == "replaced":
        other = path.with_name("other")
        other.write_text('{"a": 1}\n')
        other.rename(path)
    elif how == "removed":
        path.unlink()
    elif how == "owner":
        os.chown(path, 1000, 1000)
    elif how == "linked":
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")


@pytest.mark.parametrize("how", ["written", "same-size", "replaced", "removed", "owner", "linked"])
@pytest.mark.parametrize("text", ['{"b": 1}\n', None])
def test_an_update_of_another_process_is_not_lost(etc: Path, how: str, text: str | None) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_text('{"a": 1}\n')
    file = configuration_file.read(str(path))
    _changed_meanwhile(path, how)
    now = path.read_bytes() if path.exists() else None
    with pytest.raises(CdiGenError, match="was changed by another process in the meantime"):
        replacement.replace(file, text)
    assert (path.read_bytes() if path.exists() else None) == now
    assert path.is_symlink() == (how == "linked")
    assert not [name for name in os.listdir(etc) if name.startswith(".cdi-gen")]


def test_a_file_that_another_process_made_meanwhile_is_not_lost(etc: Path) -> None:
    """A54."""
    path = etc / "daemon.json"
    file = configuration_file.read(str(path))
    path.write_text("theirs")
    with pytest.raises(CdiGenError, match="was created by another process in the meantime"):
        replacement.replace(file, "ours", first=True)
    assert path.read_text() == "theirs"
    assert os.listdir(etc) == ["daemon.json"]


def test_a_backup_is_made_once(etc: Path) -> None:
    """A54: of the state before the first change."""
    path = etc / "daemon.json"
    path.write_text('{"a": 1}\n')
    configure(path)
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    done = configure(path, "--runtime")
    assert "as it was" not in done.err
    assert Path(f"{path}.cdi-gen.bak").read_text() == '{"a": 1}\n'
    assert unconfigure(path).code == 0
    assert path.read_text() == '{"a": 2}\n'
    assert Path(f"{path}.cdi-gen.bak").exists(), "it is not what the file is now"


def test_a_backups_place_that_is_a_link_is_not_followed(etc: Path, tmp_path: Path) -> None:
    """A54."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = etc / "daemon.json"
    path.write_text("{}\n")
    Path(f"{path}.cdi-gen.bak").symlink_to(victim)
    assert configure(path).code == 0
    assert victim.read_text() == "mine"


def test_a_full_file_system(etc: Path) -> None:
    """A54."""
    script = f"""
        mount -t tmpfs -o size=16k,mode=755 none {etc}
        printf '{{"old": 1}}' > {etc}/daemon.json
        head -c 12288 /dev/zero > {etc}/ballast
        code=0; "$@" engine configure docker --config {etc}/daemon.json || code=$?
        cat {etc}/daemon.json; echo; ls -A {etc}
        exit $code"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", sys.executable, "-m", "cdi_gen"],
        env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1, done
    assert "No space left on device; the file is unchanged" in done.stderr
    assert done.stdout.splitlines()[0] == '{"old": 1}'
    assert ".cdi-gen-" not in done.stdout


def test_the_way_to_a_file_is_looked_at_link_by_link(etc: Path) -> None:
    path = etc / "daemon.json"
    path.write_text("{}\n")
    configuration_file.check(str(path))
    configuration_file.check(str(etc / "not" / "there" / "yet.json"))
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(CdiGenError, match="Too many levels"):
        configuration_file.check(str(path))
    etc.chmod(0o775)
    with pytest.raises(UnsafeError, match="can be written to by others"):
        configuration_file.check(str(etc / "x.json"))
