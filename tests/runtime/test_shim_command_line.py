# SPDX-License-Identifier: Apache-2.0
"""The command, the bundle and the log in the command line of a low-level runtime."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cdi_runtime.shim import command_line

LINES = {
    "create --bundle /b c": ("create", "/b"),
    "create -b /b c": ("create", "/b"),
    "create --bundle=/b c": ("create", "/b"),
    "create -bundle /b c": ("create", "/b"),
    "create -bundle=/b c": ("create", "/b"),
    "create -b=/b c": ("create", "/b"),
    # GNU: attached to its letter, and anywhere.
    "create -b/b c": ("create", "/b"),
    "create c --bundle /b": ("create", "/b"),
    "create c": ("create", ""),
    "create --bundle /a --bundle /b c": ("create", "/b"),
    "run -d --bundle /b c": ("run", "/b"),
    # What engines say.
    "--root /run/r --log /b/log.json --log-format json --systemd-cgroup create --bundle /b "
    "--pid-file /b/init.pid --console-socket /s c": ("create", "/b"),
    "--cgroup-manager=disabled --log-level warning --root=/r create --bundle /b c": (
        "create",
        "/b",
    ),
    "--systemd-cgroup --debug --rootless auto --criu /usr/bin/criu run -b /b c": ("run", "/b"),
    # A value that looks like a command, or a command like a value.
    "--root create state c": ("state", ""),
    "--log run kill c": ("kill", ""),
    "create --bundle create c": ("create", "create"),
    "exec c create": ("exec", ""),
    "exec --bundle /b create": ("exec", "/b"),
    "delete -f create": ("delete", ""),
    "state create": ("state", ""),
    # Options of a runtime nobody here knows.
    "--network none create --bundle /b c": ("create", "/b"),
    "--network=none create --bundle /b c": ("create", "/b"),
    "--quiet create --bundle /b c": ("create", "/b"),
    "create --hugetlb 3 --bundle /b c": ("create", "/b"),
    # Nothing after this is an option.
    "create --bundle /b -- --bundle": ("create", "/b"),
    "-- create": ("", ""),
    "": ("", ""),
    "--bundle": ("", ""),
    "create --bundle": ("create", ""),
    "-": ("-", ""),
}


@pytest.mark.parametrize("line", LINES)
def test_command_and_bundle_of_a_command_line(line: str) -> None:
    invocation = command_line.parse(line.split())
    assert (invocation.command, invocation.bundle) == LINES[line]


@pytest.mark.parametrize(
    ("line", "edits"),
    [
        ("create c", True),
        ("run c", True),
        ("create --help", False),
        ("--help create", False),
        ("restore --bundle /b c", False),
        ("start c", False),
        ("--version", False),
        ("", False),
    ],
)
def test_commands_that_create_a_container(line: str, edits: bool) -> None:
    assert command_line.parse(line.split()).creates_container() is edits


def test_log_of_the_runtime() -> None:
    invocation = command_line.parse(["--log", "/l", "--log-format=json", "create", "-b", "/b", "c"])
    assert (invocation.log, invocation.log_format) == ("/l", "json")


@pytest.mark.parametrize("line", ["--version", "-v", "--root /r -version"])
def test_version_is_requested(line: str) -> None:
    assert command_line.parse(line.split()).version


@pytest.mark.parametrize("line", ["state -v", "create c", "list --version"])
def test_option_of_a_command_is_not_the_version(line: str) -> None:
    assert not command_line.parse(line.split()).version


def test_other_configuration_of_crun() -> None:
    assert command_line.parse(["create", "-f", "/x/y.json", "-b", "/b", "c"]).config == "/x/y.json"
    assert command_line.parse(["create", "--config=y.json", "c"]).config == "y.json"
    # runsc's global one is something else.
    assert command_line.parse(["--config", "/etc/x", "create", "c"]).config == ""


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_every_option_with_a_value_of_a_real_runtime_is_known(runtime: str) -> None:
    """An option with a value that is not known as such hides the command that follows it."""
    program = shutil.which(runtime)
    if program is None:
        pytest.skip(f"needs {runtime}")

    def help_of(*words: str) -> str:
        command = [program, *words, "--help"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    for name in _with_value(help_of()):
        assert name in command_line.GLOBAL_OPTIONS_WITH_VALUE, name
    for command in command_line.CREATING_COMMANDS:
        for name in _with_value(help_of(command)):
            assert name in command_line.COMMAND_OPTIONS_WITH_VALUE, name


def _with_value(text: str) -> set[str]:
    options = set()
    for line in text.splitlines():
        words = line.replace(",", " ").split()
        if not words or not words[0].startswith("-"):
            continue
        names = [word for word in words if word.startswith("-")]
        if any("=" in name for name in names) or words[1:2] == ["value"]:
            options |= {name.lstrip("-").partition("=")[0].partition("[")[0] for name in names}
    assert "bundle" in options or "log" in options
    return options


def test_any_words_are_accepted(tmp_path: Path) -> None:
    for word in ("--bundle=" + "x" * 100_000, "\udcff", "--=", "---", "-b", "\n"):
        command_line.parse(["create", word])
        command_line.parse([word, "create"])
