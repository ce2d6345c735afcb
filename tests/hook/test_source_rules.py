# SPDX-License-Identifier: Apache-2.0
"""The syntax trees of the hooks follow the rules of hooks/README.md for imports and calls."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

HOOKS = Path(__file__).resolve().parents[2] / "hooks"
LAUNCHERS = ("cdi-gen-hook", "nvidia-cdi-hook", "cdi-gen-runtime", "cdi-gen-runtime-hook")
PACKAGES = ("cdi_base", "cdi_hook", "cdi_runtime")
FILES = sorted(
    [
        *(file for package in PACKAGES for file in HOOKS.glob(f"{package}/**/*.py")),
        *(HOOKS / name for name in LAUNCHERS),
    ]
)

MODULES = {
    "__future__", "_json", "_signal", "_socket", "_struct", "_ctypes", "errno", "fcntl", "os", "resource",
    "select", "stat", "sys", "time", "cdi_base", "cdi_hook", "cdi_runtime",
    "cdi_hook_modules", "cdi_prestart_modules", "cdi_shim_modules", "gc", "marshal",
}  # fmt: skip
NAMES = {"open", "eval", "exec", "compile", "__import__", "input", "breakpoint"}
ONLY_IN = {
    "cdi_hook/steps/__init__.py": {"__import__"},
    "cdi_base/collection.py": {"exec"},
}
"""The names of the steps' modules are constants there; the bytecode of modules is root's file."""
OF_OS = {"path", "makedirs", "removedirs", "renames", "walk", "fwalk", "system", "popen", "fdopen"}
LATE_IMPORTS = {
    "cdi_hook/__main__.py": "hook: from cdi_hook.steps import apply_cuda_memory_limits; "
    "plan: from cdi_hook import driver_file; load_all: from cdi_hook import driver_file; "
    "load_all: from cdi_hook.steps import apply_cuda_memory_limits",
    "cdi_base/cdi/spec_directories.py": "_valid_specs: from cdi_base.cdi import specification",
    "cdi_hook/steps/update_ldcache.py": "prepare: from cdi_hook.ldso import ldconfig",
    "cdi_hook/steps/check_requirements.py": "prepare: from cdi_base import requirement",
    "cdi_runtime/prestart/own_hooks.py": "_main_of: from cdi_hook import __main__ as program",
    "cdi_runtime/shim/main.py": "_edit: from cdi_runtime.shim import create; _fail: from cdi_runtime.shim import log",
}
"""Nothing is imported once input is read: `prepare` runs before, and `_edit` begins with it; `_main_of`
runs when root's config.json has been read, and nothing of the image. Most
commands of the shim need neither of its two, and are not to pay for them."""
OF_OS_ONLY = {
    "execve": {
        *("cdi_hook/ldso/sandbox.py", "cdi_runtime/shim/oci_runtime.py"),
        "cdi_runtime/prestart/own_hooks.py",
    },
    "fork": {"cdi_base/child.py"},
    "posix_spawn": {"cdi_base/child.py"},
}
"""Where a process begins or becomes another: ldconfig; runc or crun; a spec's hooks; cdi-gen."""


def offences(source: str, name: str) -> list[str]:
    messages: list[str] = []
    launcher = name in LAUNCHERS

    def look(node: ast.AST, typing_only: bool) -> None:
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom) and not typing_only:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or "."]
            )
            messages.extend(f"{where}: import {n}" for n in names if n.split(".")[0] not in MODULES)
        if isinstance(node, ast.Name) and node.id in NAMES - ONLY_IN.get(name, set()):
            messages.append(f"{where}: {node.id}")
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        ):
            if node.attr in OF_OS and not (launcher and node.attr == "path"):
                messages.append(f"{where}: os.{node.attr}")
            begins = node.attr.startswith(("exec", "spawn", "posix_spawn", "fork"))
            if begins and name not in OF_OS_ONLY.get(node.attr, ()):
                messages.append(f"{where}: os.{node.attr}")
        if isinstance(node, ast.FunctionDef):
            late = [
                each for each in ast.walk(node) if isinstance(each, ast.Import | ast.ImportFrom)
            ]
            allowed_late = LATE_IMPORTS.get(name, "").split("; ")
            messages.extend(
                f"{where}: {ast.unparse(each)} in a function"
                for each in late
                if f"{node.name}: {ast.unparse(each)}" not in allowed_late
            )
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if caught in {"everything", "Exception", "BaseException"} and not reraises:
                messages.append(f"{where}: except {caught}")
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            typing_only = True
        for child in ast.iter_child_nodes(node):
            look(child, typing_only)

    look(ast.parse(source), False)
    return messages


def test_the_hooks_are_found() -> None:
    assert {"cdi-gen-hook", "__main__.py", "rootfs.py", "sandbox.py"} <= {
        file.name for file in FILES
    }


@pytest.mark.parametrize("name", [str(file.relative_to(HOOKS)) for file in FILES])
def test_a_hook_keeps_the_rules(name: str) -> None:
    assert offences((HOOKS / name).read_text(), name) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pathlib",
        "import yaml",
        "import json",
        "import struct",
        "from cdi_gen import errors",
        "open('/etc/passwd')",
        "import os\nos.path.join('a', 'b')",
        "import os\nos.makedirs('a')",
        "import os\nos.execv('/bin/sh', [])",
        "import os\nos.fork()",
        "def f():\n    import subprocess",
        "def f():\n    from cdi_hook.ldso import ldconfig",
        "class C:\n    def prepare(self):\n        import os",
        "try:\n    f()\nexcept Exception:\n    pass",
    ],
)
def test_the_rules_can_be_broken(source: str) -> None:
    assert offences(source, "example.py")


def test_everything_is_written_for_python_3_9() -> None:
    for file in FILES:
        ast.parse(file.read_text(), feature_version=(3, 9))


def test_only_ldconfig_meets_names_of_the_host() -> None:
    """The hooks open only a few absolute paths of the host, which this test lists."""
    opened = {
        node.args[0].value
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in {"open", "stat", "read_beginning"}
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("/")
    }
    assert opened == {
        "/", "/dev/null", "/proc/1/ns/mnt", "/proc/self/mountinfo", "/proc/self/ns/mnt",
        "/proc/self", "/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/environ", "/proc/driver/nvidia/params",
    }  # fmt: skip


def test_the_hook_is_found_where_it_is_run() -> None:
    first, *_ = (HOOKS / "cdi-gen-hook").read_text().splitlines()
    assert first == "#!/usr/bin/python3 -IS"
    assert (HOOKS / "cdi-gen-hook").stat().st_mode & 0o111 == 0o111
    assert sys.version_info >= (3, 10)
