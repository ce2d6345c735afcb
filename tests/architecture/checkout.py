# SPDX-License-Identifier: Apache-2.0
"""The files of this repository, as git lists them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def file_names() -> list[str]:
    """Return the files that git tracks or does not ignore; skip the test outside of a checkout."""
    listing = subprocess.run(
        # A checkout of another user, as CI has it, is safe to list.
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.splitlines() if (REPOSITORY / name).is_file()]
