# SPDX-License-Identifier: Apache-2.0
"""Runs the programs of a build: silent, unless one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class BuildError(Exception):
    """The build cannot be completed; the message says why and what to do."""


def say(line: str) -> None:
    """Report what the build does, on stderr."""
    print(f"cdi-gen: {line}", file=sys.stderr, flush=True)  # noqa: T201


def run(
    *command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return its standard output.

    Args:
        command: the program and its arguments.
        cwd: the directory to run it in.
        environment: variables in addition to those of this process.

    Raises:
        BuildError: the program does not exist or fails; the message has the end of its output.
    """
    variables = {**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
    name = Path(command[0]).name
    try:
        process = subprocess.run(
            [os.fspath(word) for word in command],
            cwd=cwd, env=variables, check=False, capture_output=True, text=True,
            errors="replace", stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise BuildError(f"the build needs the program {name}, which is not installed") from None
    if process.returncode != 0:
        end = "\n  ".join((process.stdout + process.stderr).splitlines()[-20:])
        raise BuildError(f"{name} failed with exit code {process.returncode}:\n  {end}")
    return process.stdout
