# SPDX-License-Identifier: Apache-2.0
"""Looking at a fake host, as ``cdi-gen --host-root`` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cdi_gen.host import Where, gather
from cdi_gen.inventory import Driver, Inventory
from cdi_gen.inventory.json_form import load
from tests.fakehost.hosts import FakeHost

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = os.pathsep.join(str(REPOSITORY / name) for name in (".", "specs", "hooks"))


def driver_root_of(fake: FakeHost) -> str:
    """What to give as ``--driver-root``."""
    return "/" + str(fake.driver_root.relative_to(fake.root)).removeprefix(".")


def look_at(fake: FakeHost, **where: str | tuple[str, ...]) -> Inventory:
    """The inventory of a fake host.

    One that needs NVML is looked at by a process of its own: a library stays loaded once it is,
    and each host has one.
    """
    options: dict[str, Any] = {"host_root": str(fake.root), "driver_root": driver_root_of(fake)}
    options |= where
    if needs_nvml(fake):
        return load(run("inventory", **options).stdout)
    return gather(Where(**options))


def driver_of(inventory: Inventory) -> Driver:
    """The driver of a host that has one."""
    assert inventory.driver is not None
    return inventory.driver


def needs_nvml(fake: FakeHost) -> bool:
    """Whether procfs alone does not say everything of the host's GPUs."""
    return any(gpu.mig_enabled or gpu.information != "whole" for gpu in fake.kernel.gpus)


def run(
    command: str, *words: str, check: bool = True, **where: str | tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    """Run ``cdi-gen COMMAND`` as a process of its own."""
    for name, value in where.items():
        for each in (value,) if isinstance(value, str) else value:
            words += (f"--{name.replace('_', '-')}", each)
    done = python("-m", "cdi_gen", command, *words)
    if check:
        # 4: something was written, but a device was left out.
        assert done.returncode in (0, 4), done.stderr
    return done


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the sources, with nothing of the environment that could change a result."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "LC_ALL": "C.UTF-8"},
    )
