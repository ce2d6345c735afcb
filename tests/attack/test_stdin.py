# SPDX-License-Identifier: Apache-2.0
"""The state on stdin as a weapon; what it may say in detail is in tests/hook/test_process.py."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.attack.victim import Victim

BOMBS: dict[str, bytes] = {
    "empty": b"",
    "a list": b"[]",
    "nested": b"[" * 1_000_000,
    "nested objects": b'{"a":' * 300_000,
    "NaN": b'{"bundle": NaN}',
    "a large number": b'{"ociVersion": ' + b"9" * 1_000_000 + b"}",
    "a number with a large exponent": b'{"ociVersion": 1e999999999}',
    "UTF-16": '{"bundle": "/tmp"}'.encode("utf-16"),
    "a surrogate": b'{"bundle": "/\\ud800"}',
    "a NUL": b'{"bundle": "/tmp\\u0000/x"}',
    "relative": b'{"bundle": "tmp"}',
    "missing": b"{}",
    "roots": b'{"root": "/tmp", "root": "/"}',
    "many names": b"{" + b",".join(b'"%d":0' % n for n in range(80_000)) + b"}",
    "a long text": b'{"bundle": "/' + b"\\u0041" * 170_000 + b'"}',
    "escapes": b'{"bundle": "/\\u001b[31m\\n\\u2028"}',
    "more than a mebibyte": b" " * (1 << 21),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_state(hostile: Victim, name: str) -> None:
    """A39 stdin-bombs: one line, exit 1, nothing is touched."""
    attempt = hostile.attack(*Victim.FULL, stdin=BOMBS[name], measured=True).harmless(1, seconds=5)
    assert attempt.before == attempt.after


@pytest.mark.parametrize("source", ["/dev/zero", "/dev/urandom", "sparse", "writer"])
def test_a_state_without_end(hostile: Victim, source: str) -> None:
    """A39 stdin-bombs: 1 GiB, and more; a mebibyte is read of it."""
    if source == "writer":
        with subprocess.Popen(["yes", '{"a":'], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            attempt = hostile.attack(*Victim.FULL, stdin=writer.stdout.fileno(), measured=True)
            writer.kill()
    else:
        path = Path(source)
        if source == "sparse":
            path = hostile.folder / "state"
            path.touch()
            os.truncate(path, 1 << 30)
        with path.open("rb") as file:
            attempt = hostile.attack(*Victim.FULL, stdin=file.fileno(), measured=True)
    attempt.harmless(1, seconds=5)
    assert "larger than" in attempt.said
    assert attempt.before == attempt.after


def test_a_state_that_never_comes(hostile: Victim) -> None:
    """A39 stdin-bombs: the deadline ends it."""
    hostile.altered(process__SECONDS="1")
    reading, writing = os.pipe()
    attempt = hostile.attack(*Victim.FULL, stdin=reading).harmless(1, seconds=5)
    os.close(reading)
    os.close(writing)
    assert "did not end in time" in attempt.said


def test_labels_and_annotations_are_nothing_to_us(hostile: Victim) -> None:
    """containerd's CVE-2026-53488, CVE-2026-53492: what an image says of itself has no effect."""
    hostile.attack(*Victim.FULL).harmless(0)
    state = json.loads(hostile.state())
    state["annotations"] = {f"cdi.k8s.io/{n}": "nvidia.com/gpu=all" for n in range(5_000)}
    config = {
        "root": {"path": "rootfs"},
        "annotations": {f"nvidia.com/{n}": "/" for n in range(100_000)},
        "process": {"env": ["NVIDIA_VISIBLE_DEVICES=all", "LD_PRELOAD=/evil.so"]},
    }
    (hostile.bundle / "config.json").write_text(json.dumps(config))
    attempt = hostile.attack(*Victim.FULL, stdin=json.dumps(state).encode(), measured=True)
    attempt.harmless(0)
    assert attempt.before == attempt.after
