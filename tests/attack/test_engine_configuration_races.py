# SPDX-License-Identifier: Apache-2.0
"""Others who write to an engine's configuration at the same time: no change of theirs is lost (A54).

Another process writes by a rename, as most programs do, or in the file itself, as editors and
shells do. Each has a turn at each moment of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cdi_gen.engines.change import configuration_file, exchange, replacement
from cdi_gen.engines.change.configuration_file import ConfigurationFile
from cdi_gen.errors import CdiGenError

OLD, OURS, THEIRS, LATER = (f'{{"is": "{name}"}}\n' for name in ("old", "ours", "theirs", "later"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "daemon.json"
    path.write_text(OLD)
    return path


def by_rename(path: Path, text: str) -> None:
    other = path.with_name("theirs.tmp")
    other.write_text(text)
    other.rename(path)


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def before_the_exchange(
    monkeypatch: pytest.MonkeyPatch, *turns: Callable[[], object], after: bool = False
) -> None:
    """Have others act right before our exchanges, one turn each, or right after."""
    real, waiting = exchange.exchange_names, list(turns)

    def exchanging(one: str, other: str) -> None:
        if waiting and not after:
            waiting.pop(0)()
        real(one, other)
        if waiting and after:
            waiting.pop(0)()

    monkeypatch.setattr(exchange, "exchange_names", exchanging)


def refused(file: ConfigurationFile, text: str | None = OURS) -> str:
    with pytest.raises(CdiGenError, match="was changed by another process in the meantime") as told:
        replacement.replace(file, text)
    return told.value.message


def names(path: Path) -> set[str]:
    return {name for name in os.listdir(path.parent) if not name.endswith("bak")}


@pytest.mark.parametrize("write", [by_rename, in_place])
def test_a_change_between_the_check_and_the_exchange(
    path: Path, write: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configuration_file.read(str(path))
    before_the_exchange(monkeypatch, lambda: write(path, THEIRS))
    refused(file)
    assert path.read_text() == THEIRS
    assert names(path) == {"daemon.json"}


def test_the_file_is_gone_when_it_is_exchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = configuration_file.read(str(path))
    before_the_exchange(monkeypatch, path.unlink)
    refused(file)
    assert names(path) == set()


def test_something_else_is_in_its_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = configuration_file.read(str(path))

    def linked() -> None:
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")

    before_the_exchange(monkeypatch, linked)
    refused(file)
    assert path.is_symlink()
    assert path.read_text() == OLD


def test_another_process_has_it_open_and_writes_after_the_exchange(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they write goes to the old file, wherever it is by then: so it must be the one that stays."""
    file = configuration_file.read(str(path))
    with path.open("r+") as theirs:
        if not _has_leases(path):
            pytest.skip("this file system has no leases")
        refused(file)
        theirs.write(THEIRS)
        theirs.truncate()
    assert path.read_text() == THEIRS
    replacement.replace(configuration_file.read(str(path)), OURS)
    assert path.read_text() == OURS


def test_a_second_change_while_the_first_is_given_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest is in the place; the one before it, which was in the place too, is kept."""
    file = configuration_file.read(str(path))
    before_the_exchange(
        monkeypatch, lambda: by_rename(path, THEIRS), lambda: by_rename(path, LATER)
    )
    told = refused(file)
    assert path.read_text() == LATER
    (saved,) = names(path) - {"daemon.json"}
    assert Path(path.parent, saved).read_text() == THEIRS
    assert saved in told


def test_another_process_writes_to_ours_while_it_is_taken_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configuration_file.read(str(path))
    before_the_exchange(monkeypatch, lambda: by_rename(path, THEIRS), lambda: in_place(path, LATER))
    refused(file)
    assert path.read_text() == LATER


@pytest.mark.parametrize("write", [by_rename, in_place])
def test_a_change_right_before_the_file_is_removed(
    path: Path, write: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configuration_file.read(str(path))
    real = os.rename

    def renaming(one: str, other: str) -> None:
        if one == str(path):
            write(path, THEIRS)
        real(one, other)

    monkeypatch.setattr(os, "rename", renaming)
    refused(file, None)
    assert path.read_text() == THEIRS
    assert names(path) == {"daemon.json"}


def test_a_new_file_while_the_old_one_is_put_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configuration_file.read(str(path))
    real = exchange._matches

    def judging(one: str, expected: exchange.FileState) -> bool:
        path.write_text(LATER)
        return real(one, expected._replace(inode=0))

    monkeypatch.setattr(exchange, "_matches", judging)
    told = refused(file, None)
    assert path.read_text() == LATER
    (saved,) = names(path) - {"daemon.json"}
    assert Path(path.parent, saved).read_text() == OLD
    assert saved in told


def test_a_file_system_that_cannot_exchange(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check, then a rename, as SECURITY.md says."""
    file = configuration_file.read(str(path))

    def refusing(one: str, other: str) -> None:
        raise OSError(22, "Invalid argument", other)

    monkeypatch.setattr(exchange, "exchange_names", refusing)
    replacement.replace(file, OURS)
    assert path.read_text() == OURS
    refused(file)
    assert path.read_text() == OURS


def _has_leases(path: Path) -> bool:
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == 11
    finally:
        os.close(descriptor)
    return True


WRITER = """
import json, os, sys, time
path, how, until = sys.argv[1], sys.argv[2], sys.argv[3]
number = 0
while not os.path.exists(until):
    said = json.load(open(path))
    if said["number"] != number:
        # For a moment ours may be there; then what was written last must be there again.
        time.sleep(0.05)
        said = json.load(open(path))
    if said["number"] != number:
        print(f"lost: {number}, and there is {said['number']}", flush=True)
        number = said["number"]
    number += 1
    said["number"] = number
    text = json.dumps(said)
    if how == "rename":
        with open(path + ".w", "w") as file:
            file.write(text)
        os.rename(path + ".w", path)
    else:
        with open(path, "r+") as file:
            file.write(text)
            file.truncate()
print("wrote", number, flush=True)
"""


@pytest.mark.parametrize("how", ["rename", "in place"])
def test_a_fast_writer_loses_nothing(path: Path, how: str) -> None:
    """Its last content is there, except for a moment before it writes again."""
    if how == "in place" and not _has_leases(path):
        pytest.skip("this file system has no leases")
    path.write_text('{"number": 0}')
    until = path.with_name("until")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), how, str(until)],
        stdout=subprocess.PIPE, text=True,
    ) as writer:  # fmt: skip
        end = time.monotonic() + 3
        done = refusals = 0
        while time.monotonic() < end:
            with suppress(CdiGenError, ValueError):
                refusals += 1
                file = configuration_file.read(str(path))
                said = json.loads(file.text or "")
                replacement.replace(file, json.dumps(said | {"ours": done}))
                done += 1
                refusals -= 1
        until.touch()
        printed, _ = writer.communicate()
    assert "lost" not in printed, printed
    assert printed.startswith("wrote")
    assert refusals
