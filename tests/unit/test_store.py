# SPDX-License-Identifier: Apache-2.0
"""Spec directories: what engines would resolve, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen import store
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.errors import CdiGenError, ExitCode, InvalidSpecError, UnsafeError
from cdi_gen.store import writing

OLD = '{"old": true}\n'
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners: needs root")


def spec(*names: str, kind: str = "vendor.example/gpu") -> Spec:
    edits = ContainerEdits(env=("A=b",))
    devices = tuple(Device(name=name, container_edits=edits) for name in names)
    return Spec(cdi_version="0.5.0", kind=kind, devices=devices)


SPEC = spec("0", "1")
TEXT = wire.dump(SPEC)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    path = tmp_path / "cdi"
    path.mkdir(mode=0o755)
    return path


def write(path: Path | str, **arguments: Any) -> None:
    store.write(TEXT, str(path), spec=SPEC, **arguments)


# Reading.


def put(directory: Path, name: str, content: Spec | str) -> str:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(content if isinstance(content, str) else wire.dump(content))
    return str(path)


def resolved(directories: Iterable[Path]) -> dict[str, str | None]:
    registry = store.read([str(directory) for directory in directories])
    return {device.name: device.file.path if device.file else None for device in registry.devices}


def resolution(registry: store.Registry, name: str) -> store.Resolution:
    device = registry.find(name)
    assert device is not None
    return device


def test_a_file_defines_its_devices(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", SPEC)
    assert resolved([tmp_path]) == {"vendor.example/gpu=0": path, "vendor.example/gpu=1": path}


def test_the_later_directory_wins_and_the_earlier_is_shadowed(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "run"
    shadowed, winner = put(first, "z.json", spec("0", "1")), put(second, "a.yaml", spec("0"))
    registry = store.read([str(first), str(second)])
    device = resolution(registry, "vendor.example/gpu=0")
    assert device.file is not None
    assert device.file.path == winner
    assert [file.path for file in device.shadowed] == [shadowed]
    other = resolution(registry, "vendor.example/gpu=1")
    assert other.file is not None
    assert other.file.path == shadowed
    assert registry.find("vendor.example/gpu=2") is None


def test_two_files_of_one_directory_cancel_each_other_out(tmp_path: Path) -> None:
    paths = [put(tmp_path, "a.json", spec("0", "1")), put(tmp_path, "b.json", spec("0"))]
    device = resolution(store.read([str(tmp_path)]), "vendor.example/gpu=0")
    assert device.file is None
    assert [file.path for file in device.conflicting] == paths
    assert resolved([tmp_path])["vendor.example/gpu=1"] == paths[0]


def test_a_conflict_below_is_not_healed_above(tmp_path: Path) -> None:
    # cache.go, refresh(): a name in conflict is deleted, even if a later directory defines it.
    first, second = tmp_path / "etc", tmp_path / "run"
    put(first, "a.json", spec("0"))
    put(first, "b.json", spec("0"))
    above = put(second, "c.json", spec("0"))
    device = resolution(store.read([str(first), str(second)]), "vendor.example/gpu=0")
    assert device.file is None
    assert [file.path for file in device.shadowed] == [above]


def test_the_same_name_of_another_kind_is_another_device(tmp_path: Path) -> None:
    put(tmp_path, "a.json", spec("0"))
    put(tmp_path, "b.json", spec("0", kind="vendor.example/nic"))
    assert None not in resolved([tmp_path]).values()
    assert len(resolved([tmp_path])) == 2


@pytest.mark.parametrize("name", ["a.yml", "a.conf", "a", "a.JSON", "a.json.tmp", "json"])
def test_other_suffixes_are_not_read(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, SPEC)
    assert store.read([str(tmp_path)]).files == ()


def test_subdirectories_and_missing_directories_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "sub.json", "a.json", SPEC)
    assert store.read([str(tmp_path / "none"), str(tmp_path)]).files == ()


def test_json_in_a_yaml_file_and_yaml_in_a_json_file(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", spec("0"))
    put(tmp_path, "b.json", wire.dump(spec("1"), "yaml"))
    assert set(resolved([tmp_path])) == {"vendor.example/gpu=0", "vendor.example/gpu=1"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        '{"cdiVersion": "9.9.9"}',
        wire.dump(spec("0", "0")),
        wire.dump(spec("0")).replace("gpu", "-"),
    ],
)
def test_a_broken_file_is_data_and_its_neighbours_are_read(tmp_path: Path, content: str) -> None:
    broken = put(tmp_path, "a.json", content)
    good = put(tmp_path, "b.json", SPEC)
    files = {file.path: file for file in store.read([str(tmp_path)]).files}
    assert files[broken].spec is None
    assert any(problem.severity == "fatal" for problem in files[broken].problems)
    assert files[good].spec == SPEC
    assert files[good].problems == ()


def test_faults_that_engines_let_pass_are_told_too(tmp_path: Path) -> None:
    document = json.loads(TEXT) | {"cdiVersion": "0.6.0"}
    put(tmp_path, "a.json", json.dumps(document))
    (file,) = store.read([str(tmp_path)]).files
    assert file.spec is not None
    assert [problem.path for problem in file.problems] == [".cdiVersion"]


def test_a_fifo_or_a_device_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to("/dev/zero")
    (tmp_path / "c.json").symlink_to("nowhere")
    start = time.monotonic()
    files = store.read([str(tmp_path)]).files
    assert time.monotonic() - start < 5
    assert [file.problems[0].message for file in files] == ["is not a regular file"] * 2


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(1 << 40)
    (found,) = store.read([str(tmp_path)]).files
    assert "more than" in found.problems[0].message


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.json", SPEC)

    def refuse(*_arguments: object, **_named: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        (file,) = store.read([str(tmp_path)]).files
    assert "Permission denied" in file.problems[0].message
    monkeypatch.setattr(os, "listdir", refuse)
    (directory,) = store.read([str(tmp_path)]).files
    assert directory.path == str(tmp_path)


# Writing.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_file_is_readable_by_all_whatever_the_umask(tmp_path: Path, umask: int) -> None:
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


def test_other_names_of_the_old_file_keep_the_old_content(directory: Path) -> None:
    (directory / "gpu.json").write_text(OLD)
    os.link(directory / "gpu.json", directory / "other")
    write(directory / "gpu.json")
    assert (directory / "other").read_text() == OLD


def test_a_reader_that_has_the_old_file_open_sees_it_whole(directory: Path) -> None:
    (directory / "gpu.json").write_text(OLD)
    with (directory / "gpu.json").open() as reader:
        write(directory / "gpu.json")
        assert reader.read() == OLD


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


@pytest.mark.parametrize("call", ["open", "write", "fchmod", "fsync", "rename", "close"])
@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        KeyboardInterrupt(),
    ],
    ids=["ENOSPC", "EIO", "interrupt"],
)
def test_a_fault_at_any_step_leaves_the_old_file_and_no_litter(
    directory: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: BaseException
) -> None:
    path = directory / "gpu.json"
    path.write_text(OLD)
    real = getattr(os, call)

    def fail(*arguments: Any, **named: Any) -> Any:
        if call == "open" and not arguments[1] & os.O_CREAT:
            return real(*arguments, **named)
        if call == "write":
            real(arguments[0], arguments[1][:10])
        if call == "close":
            real(*arguments)
        raise fault

    expected = CdiGenError if isinstance(fault, OSError) else KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(expected) as error:
            write(path)
    assert path.read_text() == OLD
    assert os.listdir(directory) == ["gpu.json"]
    if isinstance(fault, OSError):
        assert isinstance(error.value, CdiGenError)
        assert str(path) in error.value.message
        assert str(fault.strerror) in error.value.message
        assert error.value.exit_code == ExitCode.ERROR


def test_a_full_file_system_comes_with_a_hint(directory: Path) -> None:
    # /dev/full cannot be a directory; a limit on file size fails write() in earnest.
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(CdiGenError, match="File too large"):
            write(directory / "gpu.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(directory) == []
    assert "full" in writing._HINTS[errno.ENOSPC]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_temporary_name_that_is_taken_is_not_used(
    directory: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    (directory / "victim").write_text(OLD)
    taken = directory / f".cdi-gen-{'00' * 8}.tmp"
    taken.symlink_to("victim") if kind == "link" else os.link(directory / "victim", taken)
    with pytest.raises(CdiGenError, match="File exists"):
        write(directory / "gpu.json")
    assert (directory / "victim").read_text() == OLD
    assert not (directory / "gpu.json").exists()


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


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777, 0o757])
def test_a_spec_directory_that_others_can_write_to(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    assert f"{mode:04o}" in refused(directory / "gpu.json", directory)


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_directory_above_that_others_can_write_to(directory: Path, mode: int) -> None:
    directory.parent.chmod(mode)
    assert str(directory.parent) in refused(directory / "gpu.json", directory)


def test_a_sticky_directory_above_is_sound(directory: Path) -> None:
    directory.parent.chmod(0o1777)
    write(directory / "gpu.json", read_as_root={str(directory)})


@AS_ROOT
@pytest.mark.parametrize("above", [False, True])
def test_a_directory_of_another_user_is_refused(directory: Path, above: bool) -> None:
    os.chown(directory.parent if above else directory, 1000, 0)
    assert "belongs to user 1000" in refused(directory / "gpu.json", directory)


@AS_ROOT
def test_a_link_of_another_user_is_refused(directory: Path, tmp_path: Path) -> None:
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


def test_a_loop_of_links_is_an_error_and_no_loop(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CdiGenError):
        write(tmp_path / "a" / "gpu.json", read_as_root={str(tmp_path / "a")})


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
