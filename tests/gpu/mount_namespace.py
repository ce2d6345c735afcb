# SPDX-License-Identifier: Apache-2.0
"""Runs code of a test in a mount namespace of its own, where overlays of `/` can be mounted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.programs.container import CHECKOUT


def output_of(code: str, *words: str | Path) -> str:
    """Return the standard output of Python code; skip the test where `/` can have no overlay."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c"]
    process = subprocess.run(
        [*command, code, *words], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if "overlay" in process.stderr and "mount" in process.stderr:
        pytest.skip(f"no overlay of / on this machine: {process.stderr[-200:]}")
    assert process.returncode == 0, process.stderr
    return process.stdout
