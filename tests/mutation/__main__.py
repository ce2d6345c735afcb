# SPDX-License-Identifier: Apache-2.0
"""Mutation testing: ``python -m tests.mutation resolve`` says which mistakes no test would notice.

Everything runs on a copy of the tree, in a mount namespace in which nothing but that copy can be
written to: a mutant of a module that opens and removes files as root is no friend.
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

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("cdi_gen", "hooks", "specs", "tests", "pyproject.toml")

SUITES = (
    ("tests/hook/test_resolve.py", "tests/hook/test_rootfs.py", "tests/hook/test_rootfs_mounts.py"),
    ("tests/property/test_hook.py", "-k", "TestRoot"),
    ("tests/hook/test_symlinks.py",),
    ("tests/attack/test_links.py", "tests/attack/test_files.py", "tests/hook/test_ldcache.py"),
    ("tests/attack/test_races.py", "-k", "not naive and not trusts"),
    ("tests/attack/test_faults.py",),
)
"""Quick ones first: a mutant is killed by the first that fails."""

PATIENCE = 90
"""Seconds for one suite; a mutant that runs for ever is noticed too."""

ALONE = """
    mount --make-rprivate /
    mount --bind "$1" "$1"
    mount -o remount,bind,ro /
    cd "$1"; shift; exec "$@"
"""


def main() -> None:
    """Run the mutants of a module, and print those that live."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("module", help="a module of cdi_base: resolve, rootfs, files")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose name holds this")
    parser.add_argument("--suites", type=int, default=len(SUITES), metavar="N", help="the first N")
    chosen = parser.parse_args()
    (path,) = (REPOSITORY / "hooks/cdi_base").rglob(f"{chosen.module}.py")
    name = str(path.relative_to(REPOSITORY))
    source = (REPOSITORY / name).read_text()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy.chmod(0o755)
        for each in COPIED:
            _copy(REPOSITORY / each, copy / each)
        (copy / "tmp").mkdir()
        suites = SUITES[: chosen.suites]
        for suite in suites:
            if failed := _fails(copy, suite):
                sys.exit(f"without a mutant: {failed}")
        made = [each for each in mutants(source) if chosen.only in each.what]
        lived = [each for each in made if not _killed(copy / name, each, copy, suites)]
    print(f"{chosen.module}: {len(made) - len(lived)} of {len(made)} killed")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _killed(place: Path, mutant: Mutant, copy: Path, suites: tuple[tuple[str, ...], ...]) -> bool:
    for stale in place.parent.glob(f"__pycache__/{place.stem}.*"):
        # A file that is changed within a second and keeps its size looks unchanged.
        stale.unlink()
    place.write_text(mutant.source)
    begun = time.monotonic()
    for suite in suites:
        if failed := _fails(copy, suite):
            print(
                f"killed  {mutant.line}: {mutant.what}: {failed} ({time.monotonic() - begun:.0f} s)",
                flush=True,
            )
            return True
    print(f"LIVES   {mutant.line}: {mutant.what} ({time.monotonic() - begun:.0f} s)", flush=True)
    return False


def _fails(copy: Path, suite: tuple[str, ...]) -> str:
    """Which test fails, if one does."""
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *suite]
    ended = subprocess.Popen(
        ["unshare", "-m", "sh", "-ec", ALONE, "sh", str(copy), *pytest],
        env={**os.environ, "TMPDIR": str(copy / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with ended:
        try:
            said, _ = ended.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(ended.pid, 9)
            return "runs for ever"
    if ended.returncode == 0:
        return ""
    lines = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR", "E  "))]
    return lines[-1][:150] if lines else said[-200:]


main()
