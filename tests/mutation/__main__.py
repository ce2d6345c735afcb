# SPDX-License-Identifier: Apache-2.0
"""Mutation testing: ``python -m tests.mutation resolve`` prints the mutants that no test detects.

The tests run on a copy of the tree, in a mount namespace in which nothing but the copy can be
written to, because a mutant of a module that opens and removes files as root is dangerous.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.suites import REPOSITORY, Suite, suites_of

COPIED = ("cdi_gen", "hooks", "specs", "tests", "pyproject.toml")

PATIENCE = 10
"""A mutant whose suite takes so many times longer than without a mutant runs for ever."""

ALONE = """
    mount --make-rprivate /
    mount --bind "$1" "$1"
    mount -o remount,bind,ro /
    cd "$1"; shift; exec "$@"
"""


def main() -> None:
    """Run the mutants of a module, and print those that survive."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("module", help="resolve, rootfs/rootfs, inventory/validation, ...")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose name has this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth mutant")
    parser.add_argument("--suites", type=int, metavar="N", help="the first N suites of tests")
    options = parser.parse_args()
    name = _module(parser, options.module)
    source = (REPOSITORY / name).read_text()
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        copy.chmod(0o755)
        for entry in COPIED:
            _copy(REPOSITORY / entry, copy / entry)
        (copy / "tmp").mkdir()
        suites = {suite: _seconds(copy, suite) for suite in suites_of(name)[: options.suites]}
        selected = [mutant for mutant in mutants(source) if options.only in mutant.what]
        selected = selected[:: options.every]
        killed = [_is_killed(copy / name, mutant, copy, suites) for mutant in selected]
    print(f"{name}: {sum(killed)} of {len(killed)} killed")


def _module(parser: argparse.ArgumentParser, end: str) -> str:
    """Return the path of the module whose path ends in so."""
    paths = [*(REPOSITORY / "hooks").rglob("*.py"), *(REPOSITORY / "cdi_gen").rglob("*.py")]
    names = [str(path.relative_to(REPOSITORY)) for path in paths]
    matching = [name for name in names if f"/{name}".endswith(f"/{end.removesuffix('.py')}.py")]
    if len(matching) != 1:
        parser.error(f"{end}: {'which of ' + ', '.join(matching) if matching else 'no module'}")
    return matching[0]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _seconds(copy: Path, suite: Suite) -> float:
    """Return how long a suite takes without a mutant."""
    begin = time.monotonic()
    if failure := _failure(copy, suite, 600):
        sys.exit(f"without a mutant: {failure}")
    return time.monotonic() - begin


def _is_killed(module: Path, mutant: Mutant, copy: Path, suites: dict[Suite, float]) -> bool:
    for stale in module.parent.glob(f"__pycache__/{module.stem}.*"):
        # A file that is changed within a second and keeps its size looks unchanged.
        stale.unlink()
    module.write_text(mutant.source)
    begin = time.monotonic()
    for suite, seconds in suites.items():
        if failure := _failure(copy, suite, 30 + PATIENCE * seconds):
            print(
                f"killed  {mutant.line}: {mutant.what}: {failure} ({time.monotonic() - begin:.0f} s)",
                flush=True,
            )
            return True
    print(f"LIVES   {mutant.line}: {mutant.what} ({time.monotonic() - begin:.0f} s)", flush=True)
    return False


def _failure(copy: Path, suite: Suite, patience: float) -> str:
    """Return which test fails; empty if none does."""
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *suite]
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-ec", ALONE, "sh", str(copy), *pytest],
        env={**os.environ, "TMPDIR": str(copy / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process:
        try:
            output, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return "runs for ever"
    if process.returncode == 0:
        return ""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR", "E  "))]
    return lines[-1][:150] if lines else output[-200:]


main()
