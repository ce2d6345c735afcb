# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen hook install` of another version: a program that starts meanwhile has modules of one version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cdi_base import VERSION, files
from cdi_gen.programs import collect, install
from tests.host.looking import REPOSITORY

PYTHON = "/usr/bin/python3"
NEXT = f"{VERSION}.1"
PROGRAMS = ("cdi-gen-hook", "nvidia-cdi-hook", "cdi-gen-runtime", "cdi-gen-runtime-hook")

pytestmark = pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason=f"no {PYTHON}")


def lay_out_next(hooks: Path) -> None:
    """Change the programs to a next version, whose modules do not fit those of this one."""
    for module in hooks.rglob("*.py"):
        text = re.sub(r"\bEXPECTED\b", "FORESEEN", module.read_text())
        module.write_text(text.replace(f'"{VERSION}"', f'"{NEXT}"'))


class Upgrades:
    """Installations of two versions over each other; at moments in them the programs are started."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sources = {VERSION: folder / "this", NEXT: folder / "next"}
        for hooks in self.sources.values():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / "hooks", hooks, ignore=ignored)
        lay_out_next(self.sources[NEXT])
        self.prefix = folder / "usr"
        self.programs = self.prefix / "libexec/cdi-gen"
        self.every = 0
        """The programs are started after so many files; 0: never."""
        self.versions: list[str | None] = []
        """What was started: the version of each program, None if it did not start."""
        self._files = 0

        def replaced(*arguments: Any, **options: Any) -> None:
            files.replace_file(*arguments, **options)
            self._files += 1
            if self.every and self._files % self.every == 0:
                self.start_all()

        monkeypatch.setattr(install, "replace_file", replaced)
        monkeypatch.setattr(install, "_source", lambda package: str(self.source / package))

    def install(self, version: str) -> None:
        self.source = self.sources[version]
        install.install(str(self.prefix), root="/", python=PYTHON)

    def start_all(self) -> None:
        for name in PROGRAMS:
            started = subprocess.run(
                [self.programs / name, "--version"], capture_output=True, text=True, check=False
            )
            version = re.search(r" (0\.\S+)$", started.stdout.partition("\n")[0])
            self.versions.append(version[1] if version else None)


@pytest.fixture
def upgrades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upgrades:
    return Upgrades(tmp_path, monkeypatch)


def test_programs_start_throughout_upgrades_and_downgrades(upgrades: Upgrades) -> None:
    upgrades.install(VERSION)
    for before, after in ((VERSION, NEXT), (NEXT, VERSION)):
        upgrades.every, upgrades.versions = 13, []
        upgrades.install(after)
        assert len(upgrades.versions) >= 24
        assert set(upgrades.versions) == {before}, "the new modules are used when all are there"
        upgrades.every, upgrades.versions = 0, []
        upgrades.start_all()
        assert set(upgrades.versions) == {after}


def test_without_the_files_programs_do_not_start_during_an_upgrade(upgrades: Upgrades) -> None:
    """The control."""
    upgrades.install(VERSION)
    for name in collect.FILES:
        (upgrades.programs / name).unlink()
    upgrades.every = 25
    upgrades.install(NEXT)
    assert None in upgrades.versions


def test_files_of_an_old_version_go_if_no_new_ones_can_be_made(
    upgrades: Upgrades, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they would be used for ever."""
    upgrades.install(VERSION)
    broken = tmp_path / "collect.py"
    broken.write_text("raise SystemExit(1)\n")
    monkeypatch.setattr(collect, "__file__", str(broken))
    upgrades.install(NEXT)
    upgrades.start_all()
    assert set(upgrades.versions) == {NEXT}
