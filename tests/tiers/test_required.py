# SPDX-License-Identifier: Apache-2.0
"""``REQUIRE=1`` turns skips into failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.looking import REPOSITORY

MODULE = """
import pytest

def test_passes(): pass

def test_skips(): pytest.skip("no such tool")

@pytest.mark.skip(reason="no such file")
def test_is_marked(): pass

@pytest.fixture
def tool(): pytest.skip("no such fixture")

def test_has_a_fixture(tool): pass

@pytest.mark.xfail(reason="known")
def test_is_expected_to_fail(): assert False
"""
WHOLE = "import pytest\npytest.skip('no such module', allow_module_level=True)\n"


def run(folder: Path, require: str, *, allowed: str = "()") -> str:
    """The last line of a run of the plugin alone."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_some.py").write_text(MODULE)
    (folder / "test_whole.py").write_text(WHOLE)
    (folder / "conftest.py").write_text(
        f"from tests import required\nrequired.ALLOWED = {allowed}\n"
    )
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(REPOSITORY)}
    options = ("-q", "--continue-on-collection-errors", "-p", "tests.required")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, **alone, "REQUIRE": require},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ended.stdout.splitlines()[-1].partition(" in ")[0]


@pytest.mark.parametrize("require", ["", "0"])
def test_a_skip_is_a_skip(tmp_path: Path, require: str) -> None:
    assert run(tmp_path, require) == "1 passed, 4 skipped, 1 xfailed"


def test_a_skip_is_a_failure_where_it_is_required(tmp_path: Path) -> None:
    assert run(tmp_path, "1") == "1 failed, 1 passed, 1 xfailed, 3 errors"


def test_a_listed_skip_stays_one(tmp_path: Path) -> None:
    listed = (
        "tuple(required.AllowedSkip(tests, reason, '') for tests, reason in "
        "(('test_some.py::test_skips', 'no such .*'), ('test_some.py::test_is_marked', 'such'),"
        " ('test_whole.py', 'no such module')))"
    )
    assert run(tmp_path, "1", allowed=listed) == "1 passed, 2 skipped, 1 xfailed, 2 errors"
