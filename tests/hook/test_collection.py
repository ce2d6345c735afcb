# SPDX-License-Identifier: Apache-2.0
"""The installed hook imports its modules from one file, as long as the file is of their sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cdi_gen.programs import collect
from tests.hook.conftest import HOOKS, PYTHON, Container

LAUNCHERS = ("cdi-gen-hook", "nvidia-cdi-hook")

LOADERS = """
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import cdi_hook_modules
from cdi_hook import __main__
__main__.load_all()
for name, module in sorted(sys.modules.items()):
    if name.startswith("cdi_") and name != "cdi_hook_modules":
        print(name, type(module.__loader__).__name__, module.__file__)
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The programs in a directory, with the file."""
    directory = tmp_path / "installed"
    shutil.copytree(HOOKS, directory, ignore=shutil.ignore_patterns("__pycache__"))
    collected(directory)
    return directory


def collected(directory: Path, *options: str) -> Path:
    subprocess.run([PYTHON, "-IS", collect.__file__, str(directory), *options], check=True)
    return directory / collect.FILE


def loaders(directory: Path) -> dict[str, str]:
    """What has loaded each of the hook's modules."""
    command = [PYTHON, "-IS", "-c", LOADERS, str(directory)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    loaded = [line.split(" ") for line in printed.splitlines()]
    assert all(path.startswith(f"{directory}/cdi_") for _, _, path in loaded)
    return {name: loader for name, loader, _ in loaded}


def test_all_modules_of_the_hook_are_loaded_from_it(installed: Path) -> None:
    loaded = loaders(installed)
    assert len(loaded) >= 40
    assert set(loaded.values()) == {"Collection"}


def test_changed_source_is_imported_itself(installed: Path) -> None:
    with (installed / "cdi_hook/steps/chmod.py").open("a") as file:
        file.write("# changed\n")
    os.utime(installed / "cdi_base/elf.py", (1, 1))
    (installed / "cdi_base/errors.py").write_bytes((HOOKS / "cdi_base/errors.py").read_bytes())
    (installed / "cdi_base/toml.py").unlink()
    loaded = loaders(installed)
    own = {name for name, loader in loaded.items() if loader == "SourceFileLoader"}
    assert own == {"cdi_hook.steps.chmod", "cdi_base.elf", "cdi_base.errors"}


def test_unchecked_file_does_not_depend_on_the_sources(installed: Path) -> None:
    collected(installed, "--unchecked")
    for module in installed.rglob("*.py"):
        module.unlink()
    assert set(loaders(installed).values()) == {"Collection"}


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize("content", [None, b"", b"\0" * 16, b"\xff" * 500], ids=repr)
def test_hook_without_a_usable_file(
    installed: Path, container: Container, name: str, content: bytes | None
) -> None:
    """None, or one of another version of Python."""
    (installed / collect.FILE).unlink()
    if content is not None:
        (installed / collect.FILE).write_bytes(content)
    container.launcher = [str(installed / name)]
    container.write("/opt/odd/libx.so.1")
    ended = container.hook("create-symlinks", "--link", "libx.so.1::/opt/odd/libx.so")
    assert ended.status == 0
    assert os.readlink(container.root / "opt/odd/libx.so") == "libx.so.1"


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
    once = (installed / collect.FILE).read_bytes()
    assert collected(installed).read_bytes() == once
    assert str(installed).encode() not in once
