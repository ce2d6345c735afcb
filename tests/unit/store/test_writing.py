# SPDX-License-Identifier: Apache-2.0
"""Spec files are written whole or not at all, and only where no other user can replace them.

`tests/unit/base` has each rule of the files and of trust; here each is applied once.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen import store
from cdi_gen.cdi import wire
from cdi_gen.errors import CdiGenError, ExitCode, InvalidSpecError, UnsafeError
from tests.unit.store.specs import SPEC, TEXT, spec

OLD = '{"old": true}\n'
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners: needs root")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    path = tmp_path / "cdi"
    path.mkdir(mode=0o755)
    return path


def write(path: Path | str, **arguments: Any) -> None:
    store.write(TEXT, str(path), spec=SPEC, **arguments)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_is_readable_by_all_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """A61 umask-modes."""
    tmp_path.chmod(0o755)
    path = tmp_path / "new" / "cdi" / "gpu.json"
    before = os.umask(umask)
    try:
        write(path)
    finally:
        os.umask(before)
    assert path.read_text() == TEXT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for made in (path.parent, path.parent.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o755
    assert os.listdir(path.parent) == ["gpu.json"]


def test_a_relative_path_without_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    write("gpu.json")
    assert (directory / "gpu.json").read_text() == TEXT


def test_a_link_is_replaced_and_not_followed(directory: Path) -> None:
    target = directory / "target"
    target.write_text(OLD)
    (directory / "gpu.json").symlink_to(target)
    write(directory / "gpu.json")
    assert target.read_text() == OLD
    assert not (directory / "gpu.json").is_symlink()


def test_engines_never_see_the_file_half_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.write

    def spy(file: int, data: bytes) -> int:
        seen.extend(os.listdir(directory))
        return real(file, data[:7])

    monkeypatch.setattr(os, "write", spy)
    write(directory / "gpu.json")
    assert (directory / "gpu.json").read_text() == TEXT
    assert seen
    assert not any(name.endswith((".json", ".yaml")) for name in seen)


def test_a_full_file_system_is_an_error_with_a_hint(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory / "gpu.json"
    path.write_text(OLD)

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(CdiGenError, match="No space left on device") as error:
            write(path)
    assert str(path) in error.value.message
    assert "full" in (error.value.hint or "")
    assert error.value.exit_code == ExitCode.ERROR
    assert path.read_text() == OLD
    assert os.listdir(directory) == ["gpu.json"]


@pytest.mark.parametrize("name", ["", "sub"])
def test_a_directory_cannot_be_written_over(directory: Path, name: str) -> None:
    (directory / "sub").mkdir()
    with pytest.raises(CdiGenError):
        write(f"{directory}/{name}")
    assert os.listdir(directory) == ["sub"]


def test_a_file_where_a_directory_should_be(directory: Path) -> None:
    (directory / "file").write_text("")
    with pytest.raises(CdiGenError, match=r"Not a directory|File exists"):
        write(directory / "file" / "gpu.json")


@pytest.mark.parametrize("text", ["", "{}", TEXT.replace('"1"', '"2"'), wire.dump(spec("0"))])
def test_text_that_means_something_else_is_not_written(directory: Path, text: str) -> None:
    with pytest.raises(InvalidSpecError):
        store.write(text, str(directory / "gpu.json"), spec=SPEC)
    assert os.listdir(directory) == []


def test_any_text_is_written_as_safely(directory: Path) -> None:
    store.write_text("é\n", str(directory / "host.json"))
    assert (directory / "host.json").read_bytes() == b"\xc3\xa9\n"
    assert stat.S_IMODE((directory / "host.json").stat().st_mode) == 0o644


# Trust.


def refused(path: Path, directory: Path) -> str:
    with pytest.raises(UnsafeError) as error:
        write(path, read_as_root={str(directory)})
    assert error.value.exit_code == ExitCode.UNSAFE
    assert not os.path.lexists(path)
    return error.value.message


def test_a_sound_directory_is_written_to(directory: Path) -> None:
    write(directory / "gpu.json", read_as_root={str(directory)})
    write(directory / "gpu.json", read_as_root={str(directory)})


@pytest.mark.parametrize("mode", [0o775, 0o1777])
def test_a_spec_directory_that_others_can_write_to(directory: Path, mode: int) -> None:
    """A52 cdi-dirs-perms."""
    directory.chmod(mode)
    assert f"{mode:04o}" in refused(directory / "gpu.json", directory)


def test_a_directory_above_that_others_can_write_to(directory: Path) -> None:
    directory.parent.chmod(0o770)
    assert str(directory.parent) in refused(directory / "gpu.json", directory)


def test_a_sticky_directory_above_is_sound(directory: Path) -> None:
    directory.parent.chmod(0o1777)
    write(directory / "gpu.json", read_as_root={str(directory)})


@AS_ROOT
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    os.chown(directory, 1000, 0)
    assert "belongs to user 1000" in refused(directory / "gpu.json", directory)


@AS_ROOT
def test_a_link_of_another_user_is_refused(directory: Path, tmp_path: Path) -> None:
    """A52 cdi-dirs-perms."""
    link = tmp_path / "link"
    link.symlink_to(directory)
    write(link / "gpu.json", read_as_root={str(link)})
    (directory / "gpu.json").unlink()
    os.chown(link, 1000, 1000, follow_symlinks=False)
    assert f"{link} belongs to user 1000" in refused(link / "gpu.json", link)


def test_a_link_into_a_directory_that_others_can_write_to(directory: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    (loose / "cdi").mkdir(parents=True)
    loose.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to("loose/cdi")
    assert str(loose) in refused(link / "gpu.json", link)
    # The directory is the same under its other name.
    assert str(loose) in refused(loose / "cdi" / "gpu.json", link)


@AS_ROOT
def test_root_does_not_write_where_others_can_replace_the_file(directory: Path) -> None:
    directory.chmod(0o777)
    with pytest.raises(UnsafeError):
        write(directory / "gpu.json")
    directory.chmod(0o1777)
    write(directory / "gpu.json")


def test_an_ordinary_user_writes_where_he_likes(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    directory.chmod(0o777)
    write(directory / "gpu.json")


def test_the_directories_that_root_engines_read_are_the_strict_ones() -> None:
    assert {"/etc/cdi", "/var/run/cdi", "/run/cdi"} == store.READ_AS_ROOT
    assert SPEC_DIRECTORIES == ("/etc/cdi", "/var/run/cdi")
