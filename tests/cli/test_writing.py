# SPDX-License-Identifier: Apache-2.0
"""``-o FILE``: the file is the old one or the new one, whatever the file system does."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.cli.program import (
    CHECKOUT,
    ENVIRONMENT,
    INVENTORY,
    PROGRAM,
    SPEC,
    cdi_gen,
    failure,
    generate,
)

OLD = '{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": []}\n'

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A spec that is there before."""
    path = tmp_path / "cdi" / "nvidia.json"
    path.parent.mkdir()
    path.write_text(OLD)
    path.chmod(0o640)
    return path


def _kept(path: Path) -> None:
    """The old file is as it was, and alone."""
    assert path.read_text() == OLD
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_replaced_and_readable_by_all(old: Path) -> None:
    found = generate("-o", str(old), umask=0o077)
    assert (found.code, found.out) == (0, "")
    assert f"nvidia.com/gpu in {old}: 1 GPU" in found.err
    assert old.read_text() == SPEC
    assert old.stat().st_mode & 0o777 == 0o644
    assert os.listdir(old.parent) == [old.name]


def test_directories_are_made_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "nvidia.json"
    assert generate("-o", str(path), umask=0o077).code == 0
    assert [each.stat().st_mode & 0o777 for each in path.parents[:2]] == [0o755, 0o755]


def test_a_relative_path(tmp_path: Path) -> None:
    assert generate("-o", "nvidia.json", cwd=tmp_path).code == 0
    assert (tmp_path / "nvidia.json").read_text() == SPEC


@pytest.mark.parametrize("kind", ["file", "dangling", "itself"])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, kind: str) -> None:
    """A23 output-symlink."""
    target = tmp_path / "target"
    if kind == "file":
        target.write_text(OLD)
    path = tmp_path / "nvidia.json"
    path.symlink_to(path if kind == "itself" else target)
    assert generate("-o", str(path)).code == 0
    assert not path.is_symlink()
    assert path.read_text() == SPEC
    assert target.exists() == (kind == "file")
    assert kind != "file" or target.read_text() == OLD


def test_the_old_file_stays_when_there_is_nothing_to_write(old: Path, tmp_path: Path) -> None:
    for arguments, code in (
        (("--host-root", str(tmp_path)), 3),
        (("--inventory", INVENTORY, "--device-id", "7"), 2),
        (("--inventory", INVENTORY, "--for", "podman@4.2"), 1),
        (("--inventory", "/dev/null"), 1),
    ):
        failure(cdi_gen("generate", *arguments, "-o", str(old)), code)
        _kept(old)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("{}", "Is a directory"),
        ("{}/", "a path that ends in / is a directory"),
        ("{}/nvidia.json/x.json", "a part of the path is not a directory"),
        ("/proc/x.json", "no file can be created in this file system"),
        ("/dev/full/x.json", "not a directory"),
        (f"{{}}/{'x' * 300}.json", "too long"),
    ],
)
def test_what_can_not_be_written_is_told(old: Path, output: str, told: str) -> None:
    assert told in failure(generate("-o", output.format(old.parent)), 1)
    _kept(old)


def _without_roots_privilege() -> None:
    """Root that has to obey permissions, as in a user namespace or a hardened unit."""
    cap_dac_override, pr_capbset_drop = 1, 24
    assert ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0) == 0


@needs_root
def test_a_directory_that_is_not_ours(old: Path) -> None:
    os.chown(old.parent, 65534, 65534)
    found = generate("-o", str(old), preexec_fn=_without_roots_privilege)
    assert "Permission denied" in failure(found, 1)
    assert "run the command as root" in found.err
    _kept(old)


def _mounted(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with mounts of its own; ``$@`` is the program."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", *PROGRAM, *arguments],
        env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


@needs_root
def test_a_read_only_file_system(old: Path) -> None:
    script = (
        f'mount --bind {old.parent} {old.parent}; mount -o remount,bind,ro {old.parent}; exec "$@"'
    )
    found = _mounted(script, "generate", "--inventory", INVENTORY, "-o", str(old))
    assert found.returncode == 1, found
    assert "Read-only file system" in found.stderr
    assert "hint: " in found.stderr
    _kept(old)


@needs_root
def test_a_full_file_system(tmp_path: Path) -> None:
    script = f"""
        mount -t tmpfs -o size=16k none {tmp_path}
        printf old > {tmp_path}/nvidia.json
        head -c 8192 /dev/zero > {tmp_path}/ballast
        code=0; "$@" || code=$?
        cat {tmp_path}/nvidia.json; ls -A {tmp_path}
        exit $code"""
    path = tmp_path / "nvidia.json"
    found = _mounted(script, "generate", "--inventory", INVENTORY, "-o", str(path))
    assert found.returncode == 1, found
    assert "the file system is full; an existing file is unchanged" in found.stderr
    assert found.stdout == "oldballast\nnvidia.json\n"


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_limit_like_a_quota(old: Path) -> None:
    found = generate("-o", str(old), preexec_fn=_small_files)
    assert "File too large" in failure(found, 1)
    assert "ulimit -f" in found.err
    _kept(old)


@pytest.mark.parametrize("mode", [0o777, 0o775])
@needs_root
def test_a_directory_that_others_can_write_to_is_refused(old: Path, mode: int) -> None:
    old.parent.chmod(mode)
    assert "can be written to by others" in failure(generate("-o", str(old)), 7)
    _kept(old)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--inventory", "missing"], 1),
        (["--nonsense"], 2),
        (["--host-root", str(CHECKOUT / "docs")], 3),
    ],
)
def test_the_shell_empties_the_file_and_we_say_so(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    path = tmp_path / "nvidia.json"
    with path.open("w") as redirected:
        found = cdi_gen(
            "generate", *arguments, capture_output=False, stdout=redirected, stderr=subprocess.PIPE
        )
    told = failure(found, code)
    assert f"the shell has emptied {path}; with -o the old file is kept" in told
    assert "the shell" not in cdi_gen("generate", *arguments).err


def test_a_redirection_that_works_says_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "nvidia.json"
    with path.open("w") as redirected:
        found = generate(capture_output=False, stdout=redirected, stderr=subprocess.PIPE)
    assert found.code == 0
    assert "the shell" not in found.err
    assert path.read_text() == SPEC


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.txt", "warning: engines read .json and .yaml files only"),
        ("a", "warning: engines read .json and .yaml files only"),
        ("a.yml", "warning: engines read .json and .yaml files only"),
    ],
)
def test_a_name_that_engines_do_not_read(tmp_path: Path, name: str, told: str) -> None:
    found = generate("-o", str(tmp_path / name))
    assert found.code == 0
    assert told in found.err


@pytest.mark.parametrize(("name", "other"), [("a.json", "yaml"), ("a.yaml", "json")])
def test_the_extension_wins_over_the_format(tmp_path: Path, name: str, other: str) -> None:
    path = tmp_path / name
    found = generate("-o", str(path), "--format", other)
    assert found.code == 0
    assert (
        f"warning: --format {other} does not match {path}: writing {path.suffix[1:]}" in found.err
    )
    assert path.read_text().startswith("---\n" if name == "a.yaml" else "{")
