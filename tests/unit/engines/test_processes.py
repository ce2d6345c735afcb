# SPDX-License-Identifier: Apache-2.0
"""Which processes are daemons: what is found is started to ask for its version, by root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_gen.engines.machine import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ANYBODY = 65_533
DAEMON = "daemon-of-a-test"
"""No engine's name: tests that run at the same time would find its process and configure for it."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize(
    ("file", "started_as", "user", "is_found"),
    [
        (DAEMON, f"/usr/bin/{DAEMON}", 0, True),
        (DAEMON, "other", 0, True),
        ("k3s", DAEMON, 0, True),
        ("k3s", "k3s", 0, False),
        (DAEMON, DAEMON, ANYBODY, False),
        ("k3s", DAEMON, ANYBODY, False),
        ("reboot", DAEMON, ANYBODY, False),
        # sudo makes itself root before it asks for a password.
        ("sudo", DAEMON, 0, False),
    ],
)
def test_a_process(folder: Path, file: str, started_as: str, user: int, is_found: bool) -> None:
    """A program that root owns, started by a user and with a name of the user's choice."""
    program = folder / file
    shutil.copy(str(shutil.which("sleep")), program)
    with subprocess.Popen([started_as, "60"], executable=program, user=user) as process:
        try:
            found = [*Machine({}).processes(DAEMON)]
        finally:
            process.kill()
    assert ((str(program), (started_as, "60", "")) in found) == is_found
    assert is_found or str(program) not in [path for path, _ in found]


def test_a_process_of_an_own_engine(folder: Path) -> None:
    """A rootless engine belongs to its user, who configures it."""
    program = folder / DAEMON
    shutil.copy(str(shutil.which("sleep")), program)
    with subprocess.Popen([program, "60"], user=ANYBODY) as process:
        try:
            found = [*Machine({}, uid=ANYBODY).processes(DAEMON)]
        finally:
            process.kill()
    assert str(program) in [path for path, _ in found]
