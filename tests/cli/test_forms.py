# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen generate --form``: the driver's files, or the driver tree."""

from __future__ import annotations

import json

import pytest

from tests.cli.program import SPEC, failure, generate

TREE = "/run/cdi-gen/driver/current"


def test_generate_writes_the_form_files_unless_it_is_asked_for_the_tree() -> None:
    """Nothing makes the tree after a reboot if cdi-gen runs once."""
    assert generate().out == generate("--form", "files").out == SPEC
    assert TREE not in SPEC
    result = generate("--form", "tree")
    assert result.code == 0
    mounts = json.loads(result.out)["containerEdits"]["mounts"]
    assert TREE in [mount["hostPath"] for mount in mounts]
    assert "to make it: sudo cdi-gen refresh --form tree [CDG-G105]" in result.err
    assert "CDG-G105" not in generate("--form", "files").err


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (("--mode", "cap"), "--form tree is not supported with --mode cap", "use --form files"),
        (("--mode", "gds"), "--form tree is not supported with --mode gds", ""),
        (
            ("--hooks=none", "--container-library-dir", "/usr/lib"),
            "--container-library-dir has no effect with --form tree",
            "use --form files",
        ),
        (
            ("--hooks=none", "--capabilities", "all,compat32"),
            "--form tree without a hook does not support compat32",
            "use --form files",
        ),
    ],
)
def test_what_the_tree_cannot_do_is_wrong_usage(
    options: tuple[str, ...], message: str, hint: str
) -> None:
    result = generate("--form", "tree", *options)
    printed = failure(result, 2)
    assert message in printed
    assert hint in printed


def test_an_unknown_form_is_wrong_usage() -> None:
    result = generate("--form", "directory")
    assert result.code == 2
    assert "files" in result.err
    assert "tree" in result.err
