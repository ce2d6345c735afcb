# SPDX-License-Identifier: Apache-2.0
"""The process that asks the host."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.errors import ExitCode
from cdi_gen.host import Where, gather
from cdi_gen.kubernetes.probe import ProbeError, probe
from tests.fakehost.hosts import FakeHost


def program(text: str) -> subprocess.Popen[str]:
    """Start another program in the place of the one that asks."""
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_its_inventory_is_that_of_this_process(host: Callable[[str], FakeHost]) -> None:
    where = Where(host_root=str(host("550-mig-mixed").root))
    facts = probe(where)
    assert facts.inventory == gather(where)
    assert [gpu.uuid for gpu in facts.properties.gpus] == [gpu.uuid for gpu in facts.inventory.gpus]


def test_a_host_without_a_driver_is_the_error_of_gather(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="no NVIDIA driver is loaded") as refusal:
        probe(Where(host_root=str(tmp_path)))
    assert refusal.value.code == "CDG-H001"
    assert refusal.value.exit_code == ExitCode.NO_DRIVER
    assert refusal.value.hint


def test_nvml_that_hangs_is_an_error_after_the_deadline() -> None:
    process = program("import time; time.sleep(60)")
    with pytest.raises(ProbeError, match="NVML has not answered for 0 s") as refusal:
        probe(Where(), 0.2, process)
    assert refusal.value.code == "CDG-N107"
    assert process.wait(60) < 0, "it was killed"


def test_an_interruption_ends_the_process() -> None:

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    # The end of its input means that its answer is waited for.
    process = program(
        "import os, signal, sys, time\n"
        "sys.stdin.read(); os.kill(os.getppid(), signal.SIGALRM); time.sleep(60)"
    )
    try:
        with pytest.raises(KeyboardInterrupt):
            probe(Where(), started=process)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert process.wait(60) < 0, "it was killed"
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit('NVML crashed')", "ended with status 1: NVML crashed"),
        ("import os; os.abort()", "ended with status -6: no message"),
        ("print('not JSON')", "ended with status 0"),
    ],
)
def test_a_process_that_dies_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ProbeError, match=message) as refusal:
        probe(Where(), started=program(text))
    assert refusal.value.code == "CDG-N108"
