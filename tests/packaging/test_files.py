# SPDX-License-Identifier: Apache-2.0
"""What packagers read: the locked requirements, the Makefile, the unit."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.host.devices.proc import CAPS, FRONTEND
from tests.cli.program import CHECKOUT, cdi_gen
from tests.hook.shared_objects import shared_object

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
TARGETS = re.findall(r"^([a-z-]+):.*## ", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
LOADED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\n"
)
LIBCUDA = "libcuda.so.550.163.01"
LOCKS = {
    "run": ("build",),
    "test": ("test",),
    "kubernetes": ("kubernetes",),
    "metrics": ("metrics",),
    "image": ("kubernetes", "metrics"),
}
"""The locked files, and the groups of pyproject.toml that they hold beside the dependencies."""


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _group(name: str) -> set[str]:
    found: set[str] = set()
    for each in PROJECT["dependency-groups"][name]:
        found |= _group(each["include-group"]) if isinstance(each, dict) else {_name(each)}
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_locked_with_hashes(lock: str) -> None:
    text = (CHECKOUT / f"requirements/{lock}.txt").read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-|#)(?!-hash)", re.sub(r"^\s+--hash", "", text, flags=re.MULTILINE), re.MULTILINE
    )
    locked = {}
    for entry in re.sub(r"\\\n", " ", text).strip().splitlines():
        pin = re.fullmatch(
            r"([a-z0-9.-]+)==(\S+)(?: ; [^-]+?)?(?:\s+--hash=sha256:[0-9a-f]{64})+", entry
        )
        assert pin, entry
        name, version = pin.groups()
        locked[name] = version
    wanted = {_name(each) for each in PROJECT["project"]["dependencies"]}
    for group in LOCKS[lock]:
        wanted |= _group(group)
    assert wanted <= set(locked)


@pytest.mark.parametrize("lock", ["run", "kubernetes", "metrics"])
def test_the_lock_of_the_tests_has_the_versions_of_the_program(lock: str) -> None:
    program, test = (
        set(
            re.findall(
                r"^\S+==\S+", (CHECKOUT / f"requirements/{name}.txt").read_text(), re.MULTILINE
            )
        )
        for name in (lock, "test")
    )
    assert program <= test


def test_an_unknown_extra_is_refused(tmp_path: Path) -> None:
    found = _make("install", f"DESTDIR={tmp_path}", "EXTRAS=cluster")
    assert found.returncode != 0
    assert "EXTRAS=cluster: no such extra; there are kubernetes and metrics" in found.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
class TestMake:
    """The Makefile's targets."""

    @pytest.mark.parametrize("target", TARGETS)
    def test_every_target_runs_what_is_there(self, target: Any) -> None:
        found = _make("-n", target)
        assert found.returncode == 0, found.stderr
        for script in re.findall(r"tools/[\w.-]+", found.stdout):
            assert (CHECKOUT / script).is_file()

    def test_help_lists_them_all(self) -> None:
        found = _make()
        assert found.returncode == 0
        assert re.findall(r"^  make ([a-z-]+)", found.stdout, re.MULTILINE) == TARGETS
        assert {"run", "test", "check", "install", "uninstall", "build", "man"} <= set(TARGETS)

    def test_the_example_is_there(self) -> None:
        (example,) = re.findall(
            r"^EXAMPLE := (\S+)", (CHECKOUT / "Makefile").read_text(), re.MULTILINE
        )
        assert cdi_gen("generate", "--inventory", example).code == 0

    def test_run_shows_an_example_where_there_is_no_driver(self, tmp_path: Path) -> None:
        """tools/run goes on where the program ends with 3, and nowhere else."""
        program = tmp_path / "cdi-gen"
        for code, calls in ((0, 1), (1, 1), (3, 2), (7, 1)):
            log = tmp_path / str(code)
            program.write_text(
                f'#!/bin/sh\necho "$@" >> {log}\n[ "$#" = 3 ] && exit 0\nexit {code}\n'
            )
            program.chmod(0o755)
            found = subprocess.run([CHECKOUT / "tools/run", program, "example"], check=False)
            assert found.returncode == (0 if code == 3 else code)
            assert len(log.read_text().splitlines()) == calls


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("script", sorted((CHECKOUT / "tools").glob("[!.]*")))
def test_tools_are_sound(script: Path) -> None:
    if script.suffix == ".py" or script.is_dir():
        return
    assert script.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", script], check=True)


def _unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(CHECKOUT / "systemd/cdi-gen.service")
    return unit


UNITS = sorted((CHECKOUT / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_units_call_commands_that_exist(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    commands = [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")]
    assert commands
    for command in commands:
        program, *words = command.split()
        assert program.removeprefix("-") == "@BINDIR@/cdi-gen"
        result = cdi_gen(*words, "--help")
        assert result.code == 0, result.err
        # A host without the shim loses nothing.
        assert program.startswith("-") is (words == ["runtime", "prepare"])


def test_a_command_line_that_does_not_exist_is_noticed() -> None:
    """The control of the test above: click checks what precedes --help."""
    assert cdi_gen("refresh", "--forse", "--help").code == 2


def test_the_unit_takes_no_gpu_for_success_and_nothing_else() -> None:
    assert _unit()["Service"]["SuccessExitStatus"].split() == ["3"]


@pytest.mark.parametrize(
    ("files", "code", "green"),
    [
        # A host without a driver: there is nothing to do.
        ({}, 3, True),
        # The module is loaded, and its libraries are missing: an administrator has to act.
        ({"proc/driver/nvidia/version": LOADED}, 1, False),
        # The module is loaded and has no GPU.
        ({"proc/driver/nvidia/version": LOADED, f"usr/lib64/{LIBCUDA}": None}, 3, True),
    ],
)
def test_the_unit_is_green_only_where_there_is_nothing_to_do(
    tmp_path: Path, files: dict[str, str | None], code: int, green: bool
) -> None:
    for name, text in files.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True)
        place.write_bytes(shared_object(b"libcuda.so.1") if text is None else text.encode())
    (tmp_path / "usr/lib").mkdir(parents=True, exist_ok=True)
    done = cdi_gen("generate", "--host-root", str(tmp_path))
    assert done.code == code, done.err
    success = {"0", *_unit()["Service"]["SuccessExitStatus"].split()}
    assert (str(code) in success) is green


def test_the_unit_sees_every_place_of_a_driver() -> None:
    """Its sandbox hides nothing that the same command finds in a shell."""
    service = _unit()["Service"]
    assert service["ProtectHome"] == "read-only"  # Google's installer: /home/kubernetes/bin/nvidia
    hiding = {"InaccessiblePaths", "TemporaryFileSystem", "PrivateTmp", "ProtectKernelModules"}
    assert not hiding & set(service)


@pytest.mark.parametrize("driver", [*FRONTEND, *CAPS, "nvidia-uvm"])
def test_the_unit_may_open_what_nvml_opens(driver: str) -> None:
    """By the names of the drivers of old branches too: 535 registers nvidia-frontend."""
    lines = (CHECKOUT / "systemd/cdi-gen.service").read_text().splitlines()
    assert f"DeviceAllow=char-{driver} rw" in lines


def test_the_uninstaller_removes_what_the_installer_puts() -> None:
    """By their texts: to run the installer takes a network."""
    install, uninstall = (
        (CHECKOUT / "tools" / name).read_text() for name in ("install", "uninstall")
    )
    placed = set(re.findall(r'> "\$destdir\$prefix(/\S+?)"', install)) | {"/bin/cdi-gen"}
    assert len(placed) == 4
    assert "cdi_gen --quiet uninstall" in uninstall
    for path in placed:
        assert f'"$root{path}"' in uninstall
