# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen`` as a process, and inventories to give it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.cli import forked

CHECKOUT = Path(__file__).resolve().parents[2]
GOLDEN = CHECKOUT / "specs/golden"
ONE_GPU = GOLDEN / "flat-550-1gpu"
TWO_GPUS = GOLDEN / "gpu-operator-550-2gpu"
MIG = GOLDEN / "flat-550-mig-mixed"
INVENTORY = str(ONE_GPU / "inventory.json")
UUID = "GPU-ab100000-c0de-4000-8000-000000001000"
"""Of the GPU of `INVENTORY`."""
SPEC = (ONE_GPU / "nvidia.json").read_text()

PROGRAM = (sys.executable, "-m", "cdi_gen")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
OF_THE_INTERPRETER = ("PYTHON", "LANG", "LC_")
PATIENCE = 30
"""Seconds after which a process that should take 0.1 hangs."""


class Result(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def cdi_gen(*arguments: str, env: dict[str, str] | None = None, **how: Any) -> Result:
    """Run it to its end in a process of its own.

    A fork of this process is ten times as fast as a new interpreter. ``how``, which goes to
    ``subprocess.run``, and variables that an interpreter reads at its start need a new one.
    """
    environment = ENVIRONMENT | (env or {})
    if how or any(name.startswith(OF_THE_INTERPRETER) for name in env or {}):
        options: dict[str, Any] = {
            "capture_output": True,
            "timeout": PATIENCE,
            "cwd": CHECKOUT,
        } | how
        found = subprocess.run([*PROGRAM, *arguments], env=environment, check=False, **options)
        return Result(found.returncode, _text(found.stdout), _text(found.stderr))
    return Result(*forked.run(arguments, environment, CHECKOUT, PATIENCE))


def generate(*arguments: str, **how: Any) -> Result:
    """Generate from the inventory of a host with one GPU."""
    return cdi_gen("generate", "--inventory", INVENTORY, *arguments, **how)


def _text(data: bytes | None) -> str:
    return (data or b"").decode()


def failure(result: Result, code: int) -> str:
    """What a refusal said, after checking that it is one for people: one line and a hint."""
    assert result.code == code, result
    assert result.out == ""
    assert "Traceback" not in result.err
    lines = result.err.splitlines()
    errors = [line for line in lines if line.startswith("cdi-gen: error: ")]
    assert len(errors) == 1, result.err
    others = [line for line in lines if not line.startswith(("cdi-gen: ", "  hint: "))]
    assert others == []
    assert len(result.err) < 700, "too much to read"
    return result.err
