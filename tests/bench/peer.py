# SPDX-License-Identifier: Apache-2.0
"""The peer, ``nvidia-ctk`` of the NVIDIA Container Toolkit: on PATH, or built where Go is there.

It reads ``/proc`` and ``/sys`` of its own ``/``, so it looks at a fake host from a chroot.
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
"""Where the peer's hook is in a lab, and so in the specs that are used there."""


def program(name: str = "nvidia-ctk") -> str | None:
    """The path of one of the toolkit's programs."""
    found = shutil.which(name)
    if found:
        return found
    try:
        return str(nvidia_toolkit.program(name))
    except LabUnavailableError:
        return None


def hook_program() -> str | None:
    """The path of ``nvidia-cdi-hook``, which the peer's specs name."""
    return program("nvidia-cdi-hook")


def version() -> str | None:
    """What the program says of itself."""
    path = program()
    if path is None:
        return None
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    return said.splitlines()[0]


def generate(path: str, host: FakeHost, *options: str) -> Step:
    """Running ``nvidia-ctk cdi generate`` on a fake host."""
    return {
        "argv": [path, "cdi", "generate", "--mode=nvml", "--format=json", *options],
        "env": ENVIRONMENT,
        "chroot": str(host.root),
    }


def spec(path: str, host: FakeHost, *options: str) -> dict[str, Any]:
    """The spec that it writes for a fake host, naming its hook at ``HOOK_PATH``."""
    with tempfile.NamedTemporaryFile() as out, tempfile.TemporaryFile() as said:
        step = generate(path, host, f"--nvidia-cdi-hook-path={HOOK_PATH}", *options)
        measured({**step, "stdout": out.name}, said.fileno())
        found: dict[str, Any] = json.loads(out.read())
        return found
