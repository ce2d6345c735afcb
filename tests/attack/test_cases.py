# SPDX-License-Identifier: Apache-2.0
"""No attack is forgotten: the cases, the docstrings of the tests, and SECURITY.md agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NUMBER = re.compile(r"\bA\d\d\b")
NAMED = re.compile(r"\b(A\d\d) ([a-z0-9]+(?:-[a-z0-9]+)+)")
ROW = re.compile(r"\|\W*(CVE-\d{4}-\d+)\b(.*)\|\s*")

CASES = {
    "A01": ("env-ldpreload", 2),
    "A02": ("env-ldaudit-libpath", 3),
    "A04": ("spec-env-nonempty", 1),
    "A05": ("cwd-import", 1),
    "A08": ("image-binaries", 1),
    "A09": ("image-ldconfig-config", 1),
    "A10": ("hook-path-trust", 2),
    "A11": ("rootfs-is-host", 2),
    "A12": ("confd-abs-link", 2),
    "A13": ("confd-rel-link", 2),
    "A14": ("every-parent-link", 5),
    "A15": ("magic-links", 2),
    "A16": ("link-arg-dots", 1),
    "A17": ("symlink-race", 2),
    "A18": ("confd-race", 2),
    "A20": ("cache-targets", 1),
    "A21": ("tmp-name-squat", 2),
    "A23": ("output-symlink", 2),
    "A24": ("proc-fake", 2),
    "A26": ("mount-leak", 4),
    "A27": ("compat-link-mount", 2),
    "A28": ("driver-root-links", 2),
    "A29": ("driver-root-names", 1),
    "A30": ("dev-root-nodes", 1),
    "A31": ("env-unprivileged", 2),
    "A33": ("params-ro", 3),
    "A34": ("config-no-widen", 5),
    "A35": ("fifo-conf", 2),
    "A37": ("devnode-open", 2),
    "A38": ("conf-bombs", 1),
    "A39": ("stdin-bombs", 2),
    "A41": ("dir-bombs", 1),
    "A42": ("stderr-flood", 1),
    "A44": ("fd-hygiene", 2),
    "A45": ("enospc", 2),
    "A46": ("erofs", 1),
    "A47": ("kill-each-syscall", 3),
    "A48": ("errno-each-syscall", 3),
    "A50": ("openat2-eagain", 1),
    "A51": ("parallel-generate", 2),
    "A52": ("cdi-dirs-perms", 2),
    "A53": ("cdi-conflict", 1),
    "A54": ("daemon-json-keep", 4),
    "A56": ("toml-keep", 3),
    "A59": ("userns-owner", 2),
    "A60": ("unknown-hook", 2),
    "A61": ("umask-modes", 2),
    "A62": ("signals", 3),
    "A63": ("content-copied", 1),
    "A64": ("kernel-file-systems", 1),
    "A65": ("preferred-links", 1),
    "A66": ("memory-sums", 1),
    "A67": ("read-only-roots", 2),
    "A70": ("env-bombs", 1),
    "A71": ("env-pipes", 1),
    "A72": ("prestart-pivoted", 1),
}
"""The attacks by number: the name, and the number of modules whose tests name it in a docstring."""


def docstrings() -> Iterator[tuple[Path, str]]:
    """Yield the docstring of each test and of each module of tests."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            if isinstance(node, ast.Module) or (isinstance(node, ast.FunctionDef) and is_test):
                yield path, ast.get_docstring(node) or ""


def rows(text: str) -> dict[str, set[str]]:
    """Return the table of published weaknesses in SECURITY.md, each with the cases of its row."""
    return {
        row[1]: set(NUMBER.findall(row[2]))
        for line in text.splitlines()
        if (row := ROW.fullmatch(line))
    }


def test_every_case_has_its_tests() -> None:
    modules: dict[str, set[Path]] = {}
    for path, text in docstrings():
        for number in NUMBER.findall(text):
            modules.setdefault(number, set()).add(path)
    counts = {number: len(paths) for number, paths in sorted(modules.items())}
    assert counts == {number: count for number, (_, count) in CASES.items()}


def test_a_case_has_one_name() -> None:
    for path, text in docstrings():
        for number, name in NAMED.findall(text):
            assert CASES[number][0] == name, path


def test_every_weakness_in_security_md_has_a_case() -> None:
    weaknesses = rows((TESTS.parent / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(weaknesses) == 10
    assert all(weaknesses.values())
    assert set().union(*weaknesses.values()) <= CASES.keys()


def test_a_row_is_read() -> None:
    text = "| CVE | x |\n|---|---|\n| **CVE-2024-0132** (9.0) | links, A27 and A14. | `A27` |\n"
    assert rows(text) == {"CVE-2024-0132": {"A14", "A27"}}
