# SPDX-License-Identifier: Apache-2.0
"""Commands that run until a signal collect garbage, which the main function disables."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.cli.program import CHECKOUT

MODULES = sorted((CHECKOUT / "cdi_gen/cli").glob("*.py"))

ENDS_AT_ONCE = {"end_on_signals"}
"""Functions whose handlers end the process while a command waits for something else."""


def calls(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def functions_with_handlers() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name not in ENDS_AT_ONCE:
                names = {*calls(node)}
                if "signal.signal" in names or any(
                    name.endswith("handle_signals") for name in names
                ):
                    yield f"{path.stem}.{node.name}", node


FUNCTIONS = dict(functions_with_handlers())


def test_the_long_running_commands_are_found() -> None:
    assert {"watch.command", "metrics_serving.run", "kubernetes_serving.run"} <= FUNCTIONS.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_command_that_runs_until_a_signal_collects_garbage(name: str) -> None:
    """Sessions of NVML and exceptions with tracebacks are cycles: memory would grow for ever."""
    assert "gc.enable" in {*calls(FUNCTIONS[name])}
