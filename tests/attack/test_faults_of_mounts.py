# SPDX-License-Identifier: Apache-2.0
"""Every call of disable-device-node-modification fails in turn: covered and read-only, or not at all."""

from __future__ import annotations

import shlex
import shutil

import pytest

from tests.attack.faults import ENDINGS, Call, calls
from tests.hook.conftest import Container, Ended
from tests.hook.test_device_nodes import DRIVER, NAME, OWN_PROC, STAND_IN

FIRST = "mount"
ERRORS = ("ENOMEM", "EIO", "EPERM", "EACCES", "ENOSYS", "EBUSY")


class Stage:
    """A container with a procfs of its own, whose hook is run below strace."""

    def __init__(self, container: Container) -> None:
        self.container = container
        container.altered(device_nodes__FOLDER='"sys/kernel"', device_nodes__FILE='"ostype"')
        self.hook = container.launcher
        root = shlex.quote(str(container.root))
        self.mounted = container.bundle / "mounted"
        container.with_mounts(
            f"{DRIVER}\n{OWN_PROC.replace('$R', root)}",
            f'grep -F {root}/proc/ /proc/self/mountinfo > {self.mounted} || :; exit "$status"',
        )

    def run(self, *strace: str) -> Ended:
        self.container.launcher = ["strace", "-f", "-qq", *strace, *self.hook]
        return self.container.hook(NAME)

    def inject(self, call: Call, fault: str) -> Ended:
        spec = f"inject={call.name}:{fault}:when={call.number}"
        return self.run("-o", "/dev/null", "-e", f"trace={call.name}", "-e", spec)

    def covers(self) -> list[list[str]]:
        """Where something is mounted below the container's /proc, and how."""
        lines = self.mounted.read_text().splitlines()
        return [line.split(" ")[4:6] for line in lines]


@pytest.fixture
def stage(container: Container) -> Stage:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    return Stage(container)


@pytest.fixture
def from_the_first_mount_on(stage: Stage) -> list[Call]:
    trace = stage.container.bundle / "trace"
    ended = stage.run("-o", str(trace))
    assert (ended.status, ended.said, len(stage.covers())) == (0, "", 1)
    return calls(trace.read_text(errors="replace"), FIRST)


@pytest.mark.parametrize("error", ERRORS)
def test_a_call_that_fails(stage: Stage, from_the_first_mount_on: list[Call], error: str) -> None:
    failed = 0
    for call in from_the_first_mount_on:
        ended = stage.inject(call, f"error={error}")
        assert ended.status in {0, 1}, (call, ended)
        assert ended.said.count("\n") <= 1, (call, ended)
        covers = stage.covers()
        if ended.said:
            failed += 1
            if ended.status == 0:
                assert covers == [], (call, ended)
        else:
            [(place, flags)] = covers
            assert place == f"{stage.container.root}{STAND_IN}"
            assert flags.startswith("ro,"), (call, ended)
    assert failed >= 4


@pytest.mark.parametrize("name", ENDINGS)
def test_a_signal(stage: Stage, from_the_first_mount_on: list[Call], name: str) -> None:
    for call in from_the_first_mount_on:
        ended = stage.inject(call, f"signal={name}")
        assert ended.status == 128 + ENDINGS[name], (call, ended)
        assert ended.said.count("\n") == 1, (call, ended)
