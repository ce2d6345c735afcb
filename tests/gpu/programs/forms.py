# SPDX-License-Identifier: Apache-2.0
"""The forms of spec that are compared, and the environment of containers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cdi_gen import tree
from cdi_gen.generate import driver_tree
from cdi_gen.inventory import json_form
from tests.gpu.programs.container import Form, cdi_gen

FORMS = ("hook", "no-hook", "nvidia", "tree", "tree-no-hook")
TREES = ("tree", "tree-no-hook")
"""Forms whose containers get the driver tree of this machine, which is made when it is needed."""

HANDED_ON = ("NCCL_", "NVSHMEM_", "TORCH_", "CUDA_HOME", "XLA_")
"""Beginnings of the names of variables that containers inherit, because the machine needs them."""

PATH = "/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def form(name: str, folder: Path) -> Form:
    """Write a spec of this form to a new directory in the folder."""
    specs = folder / "specs" / name
    specs.mkdir(parents=True)
    spec = specs / "nvidia.json"
    lacking = ""
    if name == "nvidia":
        lacking = _of_nvidia(spec)
    else:
        if name in TREES:
            make_driver_tree()
        hooks = "none" if name.endswith("no-hook") else "auto"
        kind = "tree" if name in TREES else "files"
        words = ("generate", "--hooks", hooks, "--form", kind)
        spec.write_text(cdi_gen(*words), encoding="utf-8")
        if hooks == "auto" and "createContainer" not in spec.read_text(encoding="utf-8"):
            lacking = "no hook is installed: cdi-gen hook install"
    return Form(name, specs, lacking)


def make_driver_tree() -> None:
    """Make the driver tree that the specs of the next containers name."""
    tree.make(driver_tree.layout(json_form.load(cdi_gen("inventory"))))


def handed_on() -> dict[str, str]:
    """Return the variables that containers inherit."""
    return {key: value for key, value in os.environ.items() if key.startswith(HANDED_ON)}


def environment(given: Mapping[str, str], *, own: bool) -> dict[str, str]:
    """Return the environment of containers.

    Args:
        given: variables that take precedence.
        own: whether the root file system is this machine's, and PATH with it.
    """
    path = os.environ.get("PATH", PATH) if own else PATH
    # A separate home: programs would reuse what an earlier run compiled.
    fixed = {"PATH": path, "HOME": "/tmp/home", "LANG": "C.UTF-8", "USER": "root"}
    return {**fixed, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **handed_on(), **given}


def _of_nvidia(spec: Path) -> str:
    """Write the spec of nvidia-ctk; return the reason if that is not possible."""
    program, hook = shutil.which("nvidia-ctk"), shutil.which("nvidia-cdi-hook")
    if not program or not hook:
        return "no nvidia-ctk or no nvidia-cdi-hook here"
    words = [program, "cdi", "generate", f"--nvidia-cdi-hook-path={hook}", f"--output={spec}"]
    process = subprocess.run([*words, "--format=json"], capture_output=True, text=True, check=False)
    return "" if process.returncode == 0 else f"nvidia-ctk: {process.stderr.strip()[-300:]}"
