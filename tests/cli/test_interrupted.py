# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, kill -9, closed streams, broken pipes, several writers, and every system call failing."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdi_gen.cdi.wire import load
from tests.cli.program import CHECKOUT, ENVIRONMENT, INVENTORY, PROGRAM, SPEC, cdi_gen, failure
from tests.cli.test_writing import OLD

INTERRUPTED = "cdi-gen: error: interrupted"
FAULTS = ("ENOSPC", "EIO", "EINTR", "EMFILE")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A spec that is there before, in a directory of its own."""
    path = tmp_path / "cdi" / "nvidia.json"
    path.parent.mkdir()
    path.write_text(OLD)
    return path


def _shell(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script, "bash", *PROGRAM, *arguments],
        env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_ctrl_c_while_it_waits(tmp_path: Path, old: Path) -> None:
    fifo = tmp_path / "inventory"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*PROGRAM, "generate", "--inventory", str(fifo), "-o", str(old)],
        env=ENVIRONMENT, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with fifo.open("w"):  # it has opened the other end, and reads
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == f"{INTERRUPTED}; no incomplete file is left behind [CDG-X002]\n"
    assert old.read_text() == OLD
    assert os.listdir(old.parent) == [old.name]


COUNTING = """
import os, signal, sys
from cdi_gen import __main__
wanted, ticks, leave = int(sys.argv.pop(1)), 0, os._exit
def tick(frame, event, argument):
    global ticks
    ticks += 1
    if ticks == wanted:
        os.kill(os.getpid(), signal.SIGINT)
def count(code):
    sys.setprofile(None)
    if not wanted:
        print(ticks)
        sys.stdout.flush()
    leave(code)
os._exit = count
sys.setprofile(tick)
__main__.main()
"""
"""Ctrl-C after so many calls and returns of functions; with 0, how many there are."""


def _interrupted_after(ticks: int, old: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COUNTING, str(ticks), "generate", "--inventory", INVENTORY,
         "-o", str(old)],
        env=ENVIRONMENT | {"PYTHONHASHSEED": "0"},
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ticks(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls and returns a whole run has; the last 140 are writing and telling."""
    path = tmp_path_factory.mktemp("count") / "nvidia.json"
    _interrupted_after(0, path)  # so that every module is compiled
    return int(_interrupted_after(0, path).stdout)


@pytest.mark.parametrize(
    "moment",
    [0.0001, 0.05, 0.2, 0.4, 0.6, 0.9, *(-140 + 8 * n for n in range(15))],
)
def test_ctrl_c_at_any_moment(old: Path, ticks: int, moment: float) -> None:
    """While importing, looking, making, in each part of writing, and while telling."""
    found = _interrupted_after(int(moment + ticks if moment < 0 else moment * ticks), old)
    assert found.stdout == ""
    assert old.read_text() in (OLD, SPEC)
    assert os.listdir(old.parent) == [old.name]
    assert "Traceback" not in found.stderr
    assert found.returncode == 130, found
    assert found.stderr.splitlines()[-1].startswith(INTERRUPTED)
    # Only the report of what was written may come before.
    assert found.stderr.count("\n") == 1 or old.read_text() == SPEC


@pytest.mark.parametrize("tick", range(2, 10))
def test_ctrl_c_in_the_first_milliseconds(old: Path, tick: int) -> None:
    found = _interrupted_after(tick, old)
    assert (found.returncode, found.stdout, found.stderr) == (
        130,
        "",
        f"{INTERRUPTED} [CDG-X002]\n",
    )
    assert old.read_text() == OLD


def test_killed_at_random_moments(old: Path) -> None:
    """A47: old or new, never half, and nothing that an engine would read is left behind."""
    chance = random.Random(1)
    command = [*PROGRAM, "generate", "--inventory", INVENTORY, "-o", str(old)]
    seen: set[str] = set()
    usual = 0.0
    for kill in range(300):
        if kill >= 50 and len(seen) == 2:
            break
        if kill % 10 == 0:  # how long a run takes depends on what else the machine does
            started = time.monotonic()
            subprocess.run(command, env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, check=True)
            usual = time.monotonic() - started
        old.write_text(OLD)
        with subprocess.Popen(
            command, env=ENVIRONMENT, cwd=CHECKOUT, stderr=subprocess.DEVNULL
        ) as process:
            # Most kills shall fall into the last third, where files are written.
            time.sleep(usual * chance.uniform(0.6, 1.1))
            process.kill()
        text = old.read_text()
        assert text in (OLD, SPEC)
        seen.add(text)
        left = [name for name in os.listdir(old.parent) if name != old.name]
        assert all(re.fullmatch(r"\.cdi-gen-[0-9a-f]{16}\.tmp", name) for name in left)
    assert seen == {OLD, SPEC}, "the kills came too early or too late to mean anything"


def test_two_writers_and_a_reader(old: Path) -> None:
    """A51: a concurrent reader reads the old or the new file, and each is complete."""
    commands = [
        [*PROGRAM, "generate", "--inventory", INVENTORY, "-o", str(old), *more]
        for more in ([], ["--no-all-device"])
    ]
    seen: set[str] = set()
    for race in range(60):
        if race >= 6 and len(seen) == 3:
            break
        writers = [
            subprocess.Popen(each, env=ENVIRONMENT, cwd=CHECKOUT, stderr=subprocess.DEVNULL)
            for each in commands
        ]
        while any(each.poll() is None for each in writers):
            text = old.read_text()
            if text not in seen and text != OLD:
                load(text)
            seen.add(text)
            time.sleep(0.0005)
        assert [each.wait() for each in writers] == [0, 0]
    assert len(seen) == 3
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize(
    ("redirections", "code", "told"),
    [
        (">/dev/full", 1, "standard output: No space left on device"),
        (">&-", 1, "standard output: Bad file descriptor"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("<&-", 0, "1 GPU"),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
@pytest.mark.parametrize(
    "arguments", [("generate", "--inventory", INVENTORY), ("list", "--inventory", INVENTORY)]
)
def test_streams_that_are_full_or_closed(
    redirections: str, code: int, told: str, arguments: tuple[str, str, str]
) -> None:
    found = _shell(f'"$@" {redirections}', *arguments)
    assert found.returncode == code, found
    assert "Traceback" not in found.stderr
    assert arguments[0] == "list" or told in found.stderr
    if code == 0:
        assert found.stdout == cdi_gen(*arguments).out
    elif "2>" not in redirections:
        assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["--help", "--version", "hook install --help", "completion bash"])
def test_help_to_a_full_device(words: str) -> None:
    found = _shell('"$@" >/dev/full', *words.split())
    assert found.returncode == 1
    assert found.stderr == "cdi-gen: error: standard output: No space left on device [CDG-X003]\n"


@pytest.mark.parametrize("words", ["", "engine", "hook", "runtime", "config", "cdi"])
@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_a_missing_command_is_a_usage_error_without_a_stream_for_the_help(
    words: str, redirections: str
) -> None:
    assert _shell(f'"$@" {redirections}', *words.split()).returncode == 2


def test_a_file_is_written_with_all_streams_closed(old: Path) -> None:
    """The file gets no descriptor of a stream: a write to 2 would go to the spec."""
    found = _shell('"$@" <&- >&- 2>&-', "generate", "--inventory", INVENTORY, "-o", str(old))
    assert found.returncode == 0
    assert old.read_text() == SPEC


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to hide /dev")
@pytest.mark.parametrize(
    ("redirections", "code"), [(">&-", 1), ("2>&-", 0), ("<&-", 0), ("<&- >&- 2>&-", 1)]
)
def test_closed_streams_without_dev_null(redirections: str, code: int) -> None:
    """In a chroot, or a container that is being built."""
    hidden = f'mount -t tmpfs none /dev || exit 77; "$@" {redirections}'
    found = _shell(f"unshare -m sh -c '{hidden}' sh \"$@\"", "explain", "h001")
    if found.returncode == 77:
        pytest.skip("cannot mount here")
    assert found.returncode == code
    assert "Traceback" not in found.stderr


def test_the_inventory_from_a_closed_input() -> None:
    found = _shell('"$@" <&-', "generate", "--inventory", "-")
    assert found.returncode == 1
    assert found.stderr.startswith("cdi-gen: error: standard input: the inventory is not")


@pytest.mark.parametrize("reader", ["head -n 1", "true", "sleep 0.3 | true"])
def test_a_reader_that_goes_early(reader: str) -> None:
    big = str(CHECKOUT / "specs/golden/hgx-550-8gpu/inventory.json")
    found = _shell(f'"$@" | {reader}; echo ${{PIPESTATUS[0]}} >&2', "generate", "--inventory", big)
    assert "Traceback" not in found.stderr
    assert "Exception" not in found.stderr
    assert found.stderr.splitlines()[-1] in ("0", "1")


def _traced(old: Path, *injections: str) -> tuple[subprocess.CompletedProcess[str], str]:
    log = old.parent.parent / "trace"
    found = subprocess.run(
        ["strace", "-qq", "-o", str(log), *injections,
         *PROGRAM, "generate", "--inventory", INVENTORY, "-o", str(old)],
        env=ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return found, log.read_text() if log.exists() else ""


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_every_system_call_of_writing_may_fail(old: Path) -> None:
    """A48: no traceback, the old file is kept, and no other file, except after the rename."""
    found, trace = _traced(old)
    if found.returncode != 0:
        pytest.skip(f"strace cannot trace here: {found.stderr.strip()}")
    old.write_text(OLD)
    lines = trace.splitlines()
    names = [line.partition("(")[0] for line in lines]
    first = next(
        n for n, line in enumerate(lines) if "O_DIRECTORY" in line and str(old.parent) in line
    )
    renamed = next(n for n, line in enumerate(lines) if line.startswith("rename"))
    last = next(n for n in range(renamed, len(lines)) if names[n] == "close")
    phase = range(first, last + 1)
    assert [names[n] for n in phase if names[n] in ("write", "fsync", "fchmod")] == [
        "write", "fchmod", "fsync", "fsync",
    ]  # fmt: skip
    for number, n in enumerate(phase):
        name, call = names[n], names[: n + 1].count(names[n])
        # Every call with two of the faults, in turns: 2 of 4 would be seen twice.
        for fault in (FAULTS[number % 4], FAULTS[(number + 1) % 4]):
            found, again = _traced(old, "-e", f"inject={name}:error={fault}:when={call}")
            where = f"{fault} in {lines[n]}"
            assert "(INJECTED)" in again, where
            assert "Traceback" not in found.stderr, where
            text = old.read_text()
            assert os.listdir(old.parent) == [old.name], where
            assert found.returncode in (0, 1), where
            if found.returncode == 1 and n <= renamed:
                assert text == OLD, where
                assert f"cannot write {old}: " in found.stderr, where
            elif found.returncode == 0:
                assert text == SPEC, where
            old.write_text(OLD)


def test_an_inventory_that_never_ends() -> None:
    with open("/dev/zero", "rb") as zeros:
        said = failure(cdi_gen("generate", "--inventory", "-", stdin=zeros), 1)
    assert "larger than 16 MiB" in said
