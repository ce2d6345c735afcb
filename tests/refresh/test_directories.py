# SPDX-License-Identifier: Apache-2.0
"""Spec directories that are links, full, read-only, crowded; callers at the same time; clocks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.refresh import lock
from cdi_gen.refresh.waiting import wait_for_driver
from tests.cli.program import CHECKOUT, ENVIRONMENT, PROGRAM
from tests.refresh.injection import Counter
from tests.refresh.machine import Machine, in_fork

AT_ONCE = 200


@pytest.fixture
def flat(machine: Callable[[str], Machine]) -> Machine:
    return machine("550-flat")


def test_two_hundred_refreshes_at_once(flat: Machine) -> None:
    """One works; the others wait for it and find nothing to do."""
    children = []
    for _ in range(AT_ONCE):
        child = os.fork()
        if child == 0:
            refreshed = flat.refresh_here()
            # 10: it has written both files; 0: nothing.
            code = 10 if len(refreshed.written) == 2 else len(refreshed.written)
            os._exit(code if refreshed.code == 0 else 99)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0] * (AT_ONCE - 1) + [10]
    assert sorted(flat.contents()) == ["nvidia-cap.json", "nvidia.json"]
    assert sorted(os.listdir(flat.state)) == [
        "refresh-result.json",
        "refresh.json",
        "refresh.lock",
    ]
    assert flat.check() == []


def test_readers_see_a_whole_spec_at_any_time(flat: Machine) -> None:
    """Both settings are written in turns, while another process reads."""
    flat.refresh()
    texts = {flat.gpus.read_bytes()}
    flat.refresh(capabilities=("compute",))
    texts.add(flat.gpus.read_bytes())
    child = os.fork()
    if child == 0:
        for turn in range(20):
            flat.refresh_here(capabilities=("compute",) if turn % 2 else ("all",))
        os._exit(0)
    seen = set()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        seen.add(flat.gpus.read_bytes())
    assert seen
    assert seen <= texts


def test_a_refresh_that_does_not_end_stops_no_other_for_ever(flat: Machine) -> None:
    flat.state.mkdir()
    with lock.held(str(flat.state)):

        def second() -> str:
            try:
                with lock.held(str(flat.state), seconds=0.1):
                    return "locked twice"
            except CdiGenError as error:
                return error.code

        assert in_fork(second) == "CDG-V002"


def test_the_record_of_another_user_is_not_used(flat: Machine) -> None:
    """It decides which files root removes."""
    flat.refresh()
    os.chown(flat.state / "refresh.json", 1000, 1000)
    document = json.loads((flat.state / "refresh.json").read_text())
    assert document["files"]
    assert flat.refresh(modes=("auto",)) == (0, (), (), (), "")
    assert flat.capabilities.exists(), "not known as ours any more"
    flat.state.chmod(0o777)
    refreshed = flat.refresh(force=True)
    assert refreshed.code == 7
    assert f"{flat.state} is not used" in refreshed.message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 2}', "null"])
def test_a_damaged_record_is_as_good_as_none(flat: Machine, text: str) -> None:
    flat.refresh()
    record = flat.state / "refresh.json"
    whole = json.loads(record.read_text())
    record.write_text(text)
    assert flat.refresh() == (0, (), (), (), "")
    assert json.loads(record.read_text())["files"].keys() == whole["files"].keys()


def test_a_spec_directory_that_is_a_link(flat: Machine) -> None:
    real = flat.folder / "real"
    real.mkdir()
    flat.specs.symlink_to(real)
    assert flat.refresh().code == 0
    assert sorted(os.listdir(real)) == ["nvidia-cap.json", "nvidia.json"]
    assert flat.specs.is_symlink()
    assert flat.refresh() == (0, (), (), (), "")
    assert flat.check() == []
    # It leads elsewhere now: the specs are written there, and those of before are not touched.
    other = flat.folder / "other"
    other.mkdir()
    flat.specs.unlink()
    flat.specs.symlink_to(other)
    assert flat.refresh().written == ("nvidia.json", "nvidia-cap.json")
    assert sorted(os.listdir(other)) == sorted(os.listdir(real))


def test_spec_files_that_are_links_are_replaced(flat: Machine) -> None:
    flat.specs.mkdir()
    target = flat.folder / "target"
    target.write_text("{}")
    flat.gpus.symlink_to(target)
    assert flat.refresh().code == 0
    assert not flat.gpus.is_symlink()
    assert target.read_text() == "{}"


def test_ten_thousand_files_in_the_spec_directory(flat: Machine) -> None:
    flat.specs.mkdir()
    for number in range(10_000):
        name = f"vendor{number:05}.json"
        kind = f"vendor{number:05}.com/device"
        device = {"name": "0", "containerEdits": {"env": [f"A={number}"]}}
        (flat.specs / name).write_text(
            json.dumps({"cdiVersion": "0.5.0", "kind": kind, "devices": [device]})
        )
    assert flat.refresh() == (0, ("nvidia.json", "nvidia-cap.json"), (), (), "")
    assert flat.refresh() == (0, (), (), (), "")
    assert flat.check() == []
    (flat.specs / "vendor05000.json").unlink()
    assert flat.refresh() == (0, (), (), (), "")
    shutil.rmtree(flat.root / "proc/driver/nvidia/gpus/0000:1e:00.0")
    assert flat.refresh().written == ("nvidia.json",)
    assert len(os.listdir(flat.specs)) == 10_001
    assert flat.refresh(modes=("auto",)).removed == ("nvidia-cap.json",)


def test_a_clock_that_jumps(flat: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps are compared for equality, and waiting is by the monotonic clock."""
    library = flat.own_copy("usr/lib/x86_64-linux-gnu/libcuda.so.*.*")
    flat.refresh()
    for year in (1980, 2038):
        seconds = (year - 1970) * 365 * 86400
        os.utime(library, (seconds, seconds))
        os.utime(flat.gpus, (seconds, seconds))
        os.utime(flat.state / "refresh.json", (seconds, seconds))
        monkeypatch.setattr(time, "time", lambda seconds=seconds: float(seconds))
        assert flat.check() == []
        assert flat.refresh() == (0, (), (), (), "")
        assert flat.is_fast()
    start = time.monotonic()
    wait_for_driver(0.3, str(flat.folder / "nothing"))
    assert time.monotonic() - start >= 0.3


def test_the_driver_is_waited_for(flat: Machine) -> None:
    driver = flat.root / "proc/driver"
    driver.rename(flat.root / "proc/late")
    child = os.fork()
    if child == 0:
        wait_for_driver(60, str(flat.root))
        os._exit(0 if driver.exists() else 1)
    (flat.root / "proc/late").rename(driver)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _in_mounts(machine: Machine, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script with /run and mounts of its own; ``$@`` is the refresh."""
    words = ("refresh", "--host-root", str(machine.root), *options)
    return subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f"mount -t tmpfs -o mode=755 none /run; {script}", "sh", *PROGRAM, *words],
        env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_full_disk(flat: Machine) -> None:
    """The GPU spec would be larger than what is free; the old one stays, and nothing else is left."""
    script = f"""
        mkdir /run/cdi; mount -t tmpfs -o size=160k,mode=755 none /run/cdi
        "$@" --capabilities utility --mode auto 2>/dev/null
        cp /run/cdi/nvidia.json {flat.folder}/old
        head -c 120000 /dev/zero > /run/cdi/ballast
        code=0; "$@" || code=$?
        cmp /run/cdi/nvidia.json {flat.folder}/old; ls -A /run/cdi
        rm /run/cdi/ballast
        "$@" 2>/dev/null; ls -A /run/cdi
        exit $code"""
    done = _in_mounts(flat, script)
    assert done.returncode == 1, done
    assert "the file system is full; an existing file is unchanged" in done.stderr
    assert done.stdout.split() == ["ballast", "nvidia.json", "nvidia-cap.json", "nvidia.json"]


def test_no_space_for_the_record(flat: Machine) -> None:
    script = """
        mkdir /run/cdi-gen; mount -t tmpfs -o size=4k,mode=755 none /run/cdi-gen
        head -c 4096 /dev/zero > /run/cdi-gen/ballast || true
        code=0; "$@" || code=$?
        ls -A /run/cdi /run/cdi-gen || true
        exit $code"""
    done = _in_mounts(flat, script)
    assert done.returncode == 1, done
    assert "cannot write /run/cdi-gen/refresh.json: No space left on device" in done.stderr
    assert "nvidia" not in done.stdout


def test_a_read_only_etc(flat: Machine) -> None:
    """A refresh needs nothing of it; and with specs in it, it says what to do."""
    etc = flat.folder / "etc"
    (etc / "cdi").mkdir(parents=True)
    script = f"""
        mount --bind {etc} {etc}; mount -o remount,bind,ro {etc}
        "$@"; ls /run/cdi
        code=0; "$@" --output-directory {etc}/cdi || code=$?
        ls -A {etc}/cdi
        exit $code"""
    done = _in_mounts(flat, script)
    assert done.returncode == 1, done
    assert done.stdout.split() == ["nvidia-cap.json", "nvidia.json"]
    assert "Read-only file system" in done.stderr
    assert "choose another directory (--output, --cdi-root)" in done.stderr


def test_run_is_mounted_again(flat: Machine) -> None:
    """Specs and record are gone, as after a reboot."""
    script = """
        "$@"; umount /run; mount -t tmpfs -o mode=755 none /run
        "$@"; ls /run/cdi"""
    done = _in_mounts(flat, script)
    assert done.returncode == 0, done
    assert done.stdout.split() == ["nvidia-cap.json", "nvidia.json"]


def test_an_ordinary_user_is_told_what_is_missing(flat: Machine) -> None:
    def error() -> tuple[str, str | None]:
        os.chdir(flat.folder)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            with lock.held("state"):
                return "locked", None
        except CdiGenError as error:
            return error.message, error.hint

    flat.state.mkdir()
    expected = "cannot lock state/refresh.lock: Permission denied"
    assert in_fork(error) == (expected, "run the command as root")


def test_the_calls_of_a_fast_refresh_change_nothing(flat: Machine) -> None:
    flat.refresh()
    names = in_fork(lambda: (Counter(None), flat.refresh_here())[0].names)
    assert names == []
