# SPDX-License-Identifier: Apache-2.0
"""Runs ``nvidia-ctk`` of the NVIDIA Container Toolkit: from PATH, or built if Go is installed.

``nvidia-ctk`` reads ``/proc`` and ``/sys`` of its own ``/``, so a chroot shows it a fake host.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from typing import Any

from tests.bench.contest import ENVIRONMENT, Step
from tests.bench.race import measured
from tests.fakehost.hosts import FakeHost
from tests.lab import nvidia_toolkit
from tests.lab.cache import LabUnavailableError

HOOK_PATH = "/usr/bin/nvidia-cdi-hook"
"""The path of NVIDIA's hook in a lab, and so in the specs that are used in a lab."""


def program(name: str = "nvidia-ctk") -> str | None:
    """The path of one of the toolkit's programs; None if it is not installed and cannot be built."""
    path = shutil.which(name)
    if path:
        return path
    try:
        return str(nvidia_toolkit.program(name))
    except LabUnavailableError:
        return None


def hook_program() -> str | None:
    """The path of ``nvidia-cdi-hook``, which the specs of ``nvidia-ctk`` name."""
    return program("nvidia-cdi-hook")


def version() -> str | None:
    """The first line that ``nvidia-ctk --version`` prints."""
    path = program()
    if path is None:
        return None
    output = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    return output.splitlines()[0]


def generate(path: str, host: FakeHost, *options: str) -> Step:
    """A step that runs ``nvidia-ctk cdi generate`` on a fake host."""
    return {
        "argv": [path, "cdi", "generate", "--mode=nvml", "--format=json", *options],
        "env": ENVIRONMENT,
        "chroot": str(host.root),
    }


def spec(path: str, host: FakeHost, *options: str) -> dict[str, Any]:
    """The spec that ``nvidia-ctk`` writes for a fake host; its hook is at ``HOOK_PATH``."""
    with tempfile.NamedTemporaryFile() as output, tempfile.TemporaryFile() as log:
        step = generate(path, host, f"--nvidia-cdi-hook-path={HOOK_PATH}", *options)
        measured({**step, "stdout": output.name}, log.fileno())
        document: dict[str, Any] = json.loads(output.read())
        return document
