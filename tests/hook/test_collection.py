# SPDX-License-Identifier: Apache-2.0
"""Each installed program imports its modules from one file, whatever their own files are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cdi_base import VERSION
from cdi_gen.programs import collect
from tests.hook.conftest import HOOKS, PYTHON, Container

LAUNCHERS = ("cdi-gen-hook", "nvidia-cdi-hook")
VERSIONS = {
    "cdi-gen-hook": f"cdi-gen-hook {VERSION}",
    "nvidia-cdi-hook": f"cdi-gen-hook {VERSION}",
    "cdi-gen-runtime": f"cdi-gen-runtime version {VERSION}",
    "cdi-gen-runtime-hook": f"cdi-gen-runtime-hook version {VERSION}",
}
"""What each program prints first as its version."""
ENTRY_POINTS = {
    "cdi_hook_modules": ("cdi_hook.__main__", "cdi_hook.dry_run"),
    "cdi_shim_modules": ("cdi_runtime.shim.main",),
    "cdi_prestart_modules": ("cdi_runtime.prestart", "cdi_hook.__main__"),
}

LOADERS = """
import sys
sys.dont_write_bytecode = True
directory, collection, *entry_points = sys.argv[1:]
sys.path.insert(0, directory)
__import__(collection)
for name in (*entry_points, *sys.meta_path[0]._modules):
    __import__(name)
for name, module in sorted(sys.modules.items()):
    if name.startswith("cdi_") and name != collection:
        print(name, type(module.__loader__).__name__, module.__file__)
"""
"""Imports the modules that a program begins with, and all of its file."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("programs") / "pristine"
    shutil.copytree(HOOKS, directory, ignore=shutil.ignore_patterns("__pycache__"))
    collect_modules(directory)
    return directory


@pytest.fixture
def installed(pristine: Path, tmp_path: Path) -> Path:
    """The programs in a directory, with their files."""
    return Path(shutil.copytree(pristine, tmp_path / "installed"))


def collect_modules(directory: Path) -> None:
    subprocess.run([PYTHON, "-IS", collect.__file__, str(directory)], check=True)


def loaders(directory: Path, collection: str) -> dict[str, str]:
    """What has loaded each of a program's modules."""
    command = [PYTHON, "-IS", "-c", LOADERS, str(directory), collection, *ENTRY_POINTS[collection]]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    loaded = [line.split(" ") for line in printed.splitlines()]
    assert all(path.startswith(f"{directory}/cdi_") for _, _, path in loaded)
    return {name: loader for name, loader, _ in loaded}


@pytest.mark.parametrize("collection", ENTRY_POINTS)
def test_all_modules_are_loaded_from_it(installed: Path, collection: str) -> None:
    """Those that are imported late, too."""
    loaded = loaders(installed, collection)
    assert len(loaded) >= 30
    assert set(loaded.values()) == {"Collection"}


def test_every_file_is_that_of_a_program() -> None:
    assert {f"{name}.pyc" for name in ENTRY_POINTS} == {*collect.FILES}


@pytest.mark.parametrize("collection", ENTRY_POINTS)
def test_the_sources_are_not_looked_at(installed: Path, collection: str) -> None:
    """They are those of another version, for a part, while a package is upgraded."""
    for number, module in enumerate(sorted(installed.rglob("*.py"))):
        if number % 2:
            module.write_text("raise ImportError('of another version')\n")
        else:
            module.unlink()
    assert set(loaders(installed, collection).values()) == {"Collection"}


@pytest.mark.parametrize("program", VERSIONS)
@pytest.mark.parametrize("is_collected", [True, False], ids=["collected", "not collected"])
def test_a_program_whose_modules_do_not_fit_starts_from_its_file(
    installed: Path, program: str, is_collected: bool
) -> None:
    """Without the file, as the control, it does not start."""
    errors = installed / "cdi_base/errors.py"
    errors.write_text(errors.read_text().replace("EXPECTED", "FORESEEN"))
    if not is_collected:
        for name in collect.FILES:
            (installed / name).unlink()
    started = subprocess.run(
        [installed / program, "--version"], capture_output=True, text=True, check=False
    )
    assert started.stdout.startswith(VERSIONS[program]) is is_collected, started


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize("content", [None, b"", b"\0" * 16, b"\xff" * 500], ids=repr)
def test_hook_without_a_usable_file(
    installed: Path, container: Container, name: str, content: bytes | None
) -> None:
    """None, or one of another version of Python."""
    file = installed / "cdi_hook_modules.pyc"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    container.launcher = [str(installed / name)]
    container.write("/opt/odd/libx.so.1")
    ended = container.hook("create-symlinks", "--link", "libx.so.1::/opt/odd/libx.so")
    assert ended.status == 0
    assert os.readlink(container.root / "opt/odd/libx.so") == "libx.so.1"


@pytest.mark.parametrize("program", ["cdi-gen-runtime", "cdi-gen-runtime-hook"])
def test_shim_and_prestart_hook_without_a_file(installed: Path, program: str) -> None:
    for name in collect.FILES:
        (installed / name).write_bytes(b"\0" * 16)
    started = subprocess.run(
        [installed / program, "--version"], capture_output=True, text=True, check=False
    )
    assert started.stdout.startswith(VERSIONS[program]), started


@pytest.mark.parametrize("name", LAUNCHERS)
def test_whole_hook(installed: Path, container: Container, name: str) -> None:
    container.launcher = [str(installed / name)]
    container.write("/opt/odd/libx.so.1")
    words = (
        "--link",
        "libx.so.1::/opt/odd/libx.so",
        "--folder",
        "/opt/odd",
        "--host-driver-version=550.1",
    )
    ended = container.hook("create-container", *words, "--update-application-profile")
    assert ended.status == 0, ended
    assert (container.root / "etc/ld.so.cache").exists()
    assert not list(installed.rglob("__pycache__"))
    container.assert_host_untouched()


def test_error_in_the_hook_is_one_line(installed: Path, container: Container) -> None:
    container.launcher = [str(installed / "cdi-gen-hook")]
    ended = container.hook("create-container", "--chmod")
    assert (ended.status, ended.said.count("\n")) == (2, 1)


def test_same_sources_give_the_same_file(installed: Path) -> None:
    version = subprocess.run(
        [PYTHON, "--version"], check=True, capture_output=True, text=True
    ).stdout
    if version.startswith(("Python 3.9.", "Python 3.10.")):
        pytest.skip("marshal of this version writes sets in any order")
    once = {name: (installed / name).read_bytes() for name in collect.FILES}
    collect_modules(installed)
    assert {name: (installed / name).read_bytes() for name in collect.FILES} == once
    assert not any(str(installed).encode() in content for content in once.values())
