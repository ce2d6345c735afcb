# SPDX-License-Identifier: Apache-2.0
"""Containers that NVIDIA's prestart hook is called for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.conftest import PROGRAM, Library, _as_root, compiled, library
from tests.prestart.machine import Engine, Machine

__all__ = ["_as_root", "compiled", "library"]


@pytest.fixture
def machine(tmp_path: Path, library: Library) -> Machine:
    tmp_path.chmod(0o755)
    machine = Machine(tmp_path)
    library(machine.driver / "libcuda.so.550.1", "libcuda.so.1")
    machine.write("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    return machine


@pytest.fixture(params=["runc v1", "runc v2", "crun none"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each runtime; crun 1.8 makes no filter of version 2 where it may not raise a limit."""
    return Engine(*request.param.split(" "))


@pytest.fixture
def runc() -> Engine:
    return Engine("runc", "v2")


@pytest.fixture
def program(machine: Machine, compiled: Callable[..., Path]) -> Machine:
    """The same with a dynamic program in it, `loads`, which loads the libraries it is told."""
    made = compiled("loads", PROGRAM, "-ldl")
    shutil.copy(made, machine.root / "bin/loads")
    listing = subprocess.run(["ldd", made], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+)", listing):
        place = machine.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return machine
