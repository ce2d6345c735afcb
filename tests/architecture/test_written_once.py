# SPDX-License-Identifier: Apache-2.0
"""A fact that several programs have to agree on is written in one module, and imported."""

from __future__ import annotations

import ast
from collections import defaultdict

import pytest

from tests.architecture.test_layers import SOURCES

FACTS = {
    "hooks/cdi_base/__init__.py": (
        *("cdi-gen-hook", "cdi-gen-runtime", "cdi-gen-runtime-hook"),
        *("/etc/cdi-gen/config.toml", "/etc/cdi-gen/config.d", "/run/cdi-gen", "/run/cdi-gen/runtime.json"),
    ),
    "hooks/cdi_base/cdi/__init__.py": ("/etc/cdi", "/var/run/cdi"),
    "hooks/cdi_base/nvidia.py": (
        *("nvidia-cdi-hook", "nvidia-ctk", "nvidia-container-runtime", "nvidia-container-runtime-hook"),
        *("nvidia-container-toolkit", "nvidia-container-runtime/config.toml", "vapps", "cloudgaming"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def literals() -> dict[str, set[str]]:
    """The modules that have a text, by the text."""
    modules: dict[str, set[str]] = defaultdict(set)
    for name, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                modules[node.value].add(name)
    return modules


@pytest.mark.parametrize(
    ("fact", "module"), [(fact, module) for module, facts in FACTS.items() for fact in facts]
)
def test_a_fact_is_in_one_module(fact: str, module: str, literals: dict[str, set[str]]) -> None:
    assert literals.get(fact, set()) <= {module}


@pytest.mark.parametrize("constant", ["MAX_LINKS", "BRANDS"])
def test_a_constant_has_one_value(constant: str) -> None:
    """A module may give another name to it, but not set it again."""
    modules = [
        name
        for name, path in SOURCES.items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == constant for target in node.targets)
    ]
    assert len(modules) == 1
