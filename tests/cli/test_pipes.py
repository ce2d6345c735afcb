# SPDX-License-Identifier: Apache-2.0
"""Pipes and devices in the place of a file."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from cdi_gen.cli import named_file
from tests.cli.program import CHECKOUT, INVENTORY, PROGRAM, SPEC, cdi_gen, failure


@pytest.mark.parametrize(
    "words",
    [
        ["validate", "FIFO"],
        ["show", "0", "--inventory", "FIFO"],
        ["generate", "--inventory", "FIFO"],
        ["generate", "--inventory", INVENTORY, "--dry-run", "-o", "FIFO"],
        ["inject", "FIFO", "--device", "a.b/c=d"],
    ],
    ids=" ".join,
)
def test_no_command_waits_for_ever_for_a_pipe_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(named_file, "SECONDS", 0.2)
    fifo = str(tmp_path / "pipe")
    os.mkfifo(fifo)
    found = cdi_gen(*(fifo if word == "FIFO" else word for word in words))
    assert f"{fifo}: a named pipe without a writer for 0.2 sec" in failure(found, 1)
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)


def test_nothing_is_written_in_the_place_of_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "config.json"
    os.mkfifo(fifo)
    for words in ([str(fifo)], [str(tmp_path)], ["/dev/null"]):
        said = failure(cdi_gen("inject", "-i", *words, "--device", "a.b/c=d"), 2)
        assert "is not a regular file and cannot be replaced" in said
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)


@pytest.mark.parametrize("words", [["validate"], ["list", "--inventory"]])
def test_what_has_no_end_is_not_read(words: list[str]) -> None:
    assert "/dev/zero: neither a file nor a pipe" in failure(cdi_gen(*words, "/dev/zero"), 1)


def test_a_pipe_that_the_shell_opened_is_read(tmp_path: Path) -> None:
    """As `cdi-gen validate <(make-spec)`; its content may come late."""
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as pipe:
        words = [*PROGRAM, "validate", f"/dev/fd/{reading}", "/dev/stdin"]
        with subprocess.Popen(
            words, cwd=CHECKOUT, pass_fds=(reading,), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            time.sleep(0.5)
            pipe.write(SPEC.encode())
            pipe.close()
            out, err = process.communicate(SPEC.encode(), timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out.decode() == f"/dev/fd/{reading}: ok\n/dev/stdin: ok\n"
