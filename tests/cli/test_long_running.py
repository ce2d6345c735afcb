# SPDX-License-Identifier: Apache-2.0
"""Commands that run until a signal collect garbage, which the main function disables."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.cli.program import CHECKOUT

WITHOUT_LOOP = {"kubernetes_options"}
"""Its handlers end the process while a command waits for something else."""


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


CALLS = {
    path.stem: {*calls(ast.parse(path.read_text("utf-8")))}
    for path in sorted((CHECKOUT / "cdi_gen/cli").glob("*.py"))
}
HANDLERS = {"signal.signal", "service.handle_signals"}
LONG_RUNNING = [
    name for name, names in CALLS.items() if names & HANDLERS and name not in WITHOUT_LOOP
]


def test_the_long_running_commands_are_found() -> None:
    assert {"watch", "metrics_serving", "kubernetes_serving", "top"} <= {*LONG_RUNNING}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_command_that_runs_until_a_signal_collects_garbage(name: str) -> None:
    """Sessions of NVML and exceptions with tracebacks are cycles: memory would grow for ever."""
    assert "gc.enable" in CALLS[name]
