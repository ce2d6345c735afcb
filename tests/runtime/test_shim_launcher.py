# SPDX-License-Identifier: Apache-2.0
"""The launcher without Python: commands that create no container are an exec; others go to Python.

The launcher is a script of sh; in a bundle for hosts without Python, a part of the interpreter.

Here the launcher stands alone, without its package: where Python is reached it says so and fails.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host.looking import REPOSITORY
from tools.bundle import interpreter
from tools.steps import BuildError

PLAIN = '[nvidia-container-runtime]\n#debug = "/x"\nruntimes = ["runc", "crun"]\n'
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


class Alone:
    """The launcher with a runtime that writes down its arguments, and a config.toml."""

    def __init__(self, folder: Path, interpreter: Path | None = None) -> None:
        """Have the script, or the interpreter of a bundle in place of the part in sh."""
        self.folder = folder
        self.program = folder / "cdi-gen-runtime"
        if interpreter:
            python = folder / "python"
            python.mkdir()
            shutil.copy(REPOSITORY / "hooks/cdi-gen-runtime", python)
            shutil.copy(interpreter, python)
            self.program.symlink_to(f"python/{interpreter.name}")
        else:
            shutil.copy(REPOSITORY / "hooks/cdi-gen-runtime", self.program)
        self.runtimes = folder / "bin"
        self.runtimes.mkdir()
        self.settings = folder / "config.toml"
        self.settings.write_text(PLAIN)
        self.runtime("runc")

    def runtime(self, name: str) -> None:
        program = self.runtimes / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\0" {name} "$@"\nexit 42\n')
        program.chmod(0o755)

    def run(
        self, *words: str, shell: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command = {"": [], "busybox": ["busybox", "sh"]}.get(shell, [shell])
        environment = {
            "PATH": f"{self.runtimes}:/usr/bin:/bin",
            "NVIDIA_CTK_CONFIG_FILE_PATH": str(self.settings),
        } | variables
        return subprocess.run(
            [*command, str(self.program), *words],
            env=environment, capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip


@pytest.fixture(params=["script", pytest.param("bundle", marks=pytest.mark.network)])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Alone:
    if request.param == "script":
        return Alone(tmp_path)
    try:
        directory = interpreter.build(platform.machine())
    except BuildError as error:
        pytest.skip(f"no bundle: {error}")
    return Alone(tmp_path, directory / interpreter.PROGRAM)


def reached_python(ended: subprocess.CompletedProcess[str]) -> bool:
    return ended.returncode == 1 and "No module named 'cdi_runtime'" in ended.stderr


WORDS = ["--root", "/a b", "", "kill", "$(x)", "*", "a\nb", "-n", "--", "'", "9"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_passes_arguments_unchanged(tmp_path: Path, shell: str) -> None:
    ended = Alone(tmp_path).run(*WORDS, shell=shell)
    assert ended.stdout.split("\0")[:-1] == ["runc", *WORDS]


def test_arguments_and_exit_status_pass_unchanged(alone: Alone) -> None:
    ended = alone.run(*WORDS)
    assert ended.stdout.split("\0")[:-1] == ["runc", *WORDS]
    assert (ended.returncode, ended.stderr) == (42, "")


def test_the_runtime_that_the_engine_s_launcher_names_is_started(alone: Alone) -> None:
    alone.runtime("other")
    ended = alone.run("state", "c", CDI_GEN_LOW_LEVEL_RUNTIME=str(alone.runtimes / "other"))
    assert ended.stdout == "other\0state\0c\0"


@pytest.mark.parametrize("name", ["none", "relative", "link to the launcher"])
def test_a_named_runtime_that_cannot_be_used_is_reported_by_python(alone: Alone, name: str) -> None:
    (alone.runtimes / "link to the launcher").symlink_to(alone.program)
    path = name if name == "relative" else str(alone.runtimes / name)
    assert reached_python(alone.run("state", "c", CDI_GEN_LOW_LEVEL_RUNTIME=path))


@pytest.mark.parametrize(
    "words",
    [
        ["create", "c"], ["run", "c"], ["--root", "/r", "create", "--bundle", "/b", "c"],
        ["--version"], ["-v"], ["-version"], ["delete", "create"],
    ],
)  # fmt: skip
def test_command_that_could_create_a_container_goes_to_python(
    alone: Alone, words: list[str]
) -> None:
    assert reached_python(alone.run(*words))


@pytest.mark.parametrize(
    "text",
    [
        'runtimes = ["crun"]', 'runtimes = ["crun", "runc"]', "runtimes=['runc', 'crun']",
        'nvidia-container-runtime.runtimes = ["x"]', '"runtimes" = []', 'runtimes = ["runc", "crun"] # x',
        "x = { runtimes = [] }",
    ],
)  # fmt: skip
def test_configured_runtimes_go_to_python(alone: Alone, text: str) -> None:
    alone.settings.write_text(f"{PLAIN}\n  {text}\n")
    assert reached_python(alone.run("state", "c"))


def test_missing_configuration_means_the_default(alone: Alone) -> None:
    ended = alone.run(
        "state", "c", NVIDIA_CTK_CONFIG_FILE_PATH="", XDG_CONFIG_HOME=str(alone.folder)
    )
    assert ended.stdout == "runc\0state\0c\0"


def test_missing_named_configuration_is_an_error(alone: Alone) -> None:
    alone.settings.unlink()
    assert reached_python(alone.run("state", "c"))


def test_configuration_that_is_a_pipe_is_not_read(alone: Alone) -> None:
    alone.settings.unlink()
    os.mkfifo(alone.settings)
    assert reached_python(alone.run("state", "c"))


def test_faulty_configuration_does_not_prevent_kill(alone: Alone) -> None:
    alone.settings.write_text("[nvidia-container-runtime\nmode = \n")
    assert alone.run("kill", "c").stdout == "runc\0kill\0c\0"


def test_second_runtime_is_used_without_the_first(alone: Alone) -> None:
    (alone.runtimes / "runc").chmod(0o644)
    alone.runtime("crun")
    ended = alone.run("state", "c", PATH=str(alone.runtimes))
    there = [
        f"{place}/runc" for place in ("/usr/sbin", "/usr/bin") if os.path.exists(f"{place}/runc")
    ]
    # A runc of the machine's comes before any crun, as in Python.
    assert there or ended.stdout == "crun\0state\0c\0"


def test_link_to_the_launcher_is_skipped(alone: Alone) -> None:
    for name in ("runc", "crun"):
        place = alone.runtimes / name
        place.unlink(missing_ok=True)
        place.symlink_to(alone.program)
    other = alone.folder / "other"
    other.mkdir()
    alone.runtimes = other
    alone.runtime("runc")
    ended = alone.run("state", "c", PATH=f"{alone.folder}/bin:{other}:/usr/bin:/bin")
    assert ended.stdout == "runc\0state\0c\0"


def test_nothing_is_started_from_the_current_directory(alone: Alone) -> None:
    """An empty or relative entry of PATH means the working directory: a bundle, often."""
    for entry in ("", ".", "bin"):
        ended = subprocess.run(
            [str(alone.program), "state", "c"],
            env={"PATH": f"{entry}:/usr/bin:/bin", "NVIDIA_CTK_CONFIG_FILE_PATH": str(alone.settings)},
            cwd=alone.runtimes if entry != "bin" else alone.folder,
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        assert "runc\0" not in ended.stdout
