# SPDX-License-Identifier: Apache-2.0
"""The program's words and its standard input, with no container at all."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.attack import oracles
from tests.hook.conftest import HOOKS
from tests.prestart.machine import NODES, Machine

PROGRAM = str(HOOKS / "cdi-gen-runtime-hook")


def _run(*words: str, state: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words], input=state, capture_output=True, text=True, check=False, timeout=30
    )


def _message(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.stderr.startswith("cdi-gen-runtime-hook: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


@pytest.mark.parametrize("words", [["-version"], ["--version"]])
def test_version_is_printed(words: list[str]) -> None:
    ended = _run(*words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("cdi-gen-runtime-hook version ")


@pytest.mark.parametrize("command", ["poststart", "poststop"])
def test_commands_that_do_nothing(command: str) -> None:
    ended = _run("-debug", command)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "words", [[], ["-debug"], ["stop"], ["--no-such", "prestart"], ["-config"]]
)
def test_invalid_command_line_is_a_usage_error(words: list[str]) -> None:
    ended = _run(*words)
    assert ended.returncode == 2
    assert "Usage: cdi-gen-runtime-hook" in ended.stderr


def test_missing_configuration_is_an_error() -> None:
    ended = _run("-config", "/nowhere/config.toml", "prestart")
    assert ended.returncode == 1
    assert "/nowhere/config.toml" in _message(ended)


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "{",
        '{"pid": 1}',
        '{"bundle": 1}',
        '{"bundle": "bundle"}',
        '{"bundle": "/nowhere"}',
    ],
)
def test_invalid_state_is_an_error(machine: Machine, state: str) -> None:
    ended = _run("-config", str(machine.settings), "prestart", state=state)
    assert ended.returncode == 1
    _message(ended)


@pytest.mark.parametrize("number", [0, -1, None, "1", 1 << 40, "OWN", "GONE", 1])
def test_process_without_a_containers_mounts_is_rejected(machine: Machine, number: object) -> None:
    """Never the host's mounts: not those of the caller, and not those of process 1."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    machine.write_down()
    for name in NODES:
        machine.devices.joinpath(name).parent.mkdir(exist_ok=True)
        os.mknod(machine.devices / name, 0o020666, os.makedev(195, 0))
    state = json.dumps(
        {"pid": gone.pid if number == "GONE" else number, "bundle": str(machine.bundle)}
    )
    if number == "OWN":
        state = state.replace('"OWN"', "$$")
    # In mounts of its own: what goes wrong goes away.
    script = f"""mount --bind {machine.folder} {machine.folder}; mount -o remount,bind,ro /
        cat <<END | {PROGRAM} -config {machine.settings} prestart\n{state}\nEND\n"""
    before = oracles.fingerprint(machine.root)
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 1
    _message(ended)
    assert oracles.differences(before, oracles.fingerprint(machine.root)) == set()


def test_container_without_a_request_needs_no_process(machine: Machine) -> None:
    machine.asks("NVIDIA_VISIBLE_DEVICES=void")
    machine.write_down()
    state = json.dumps({"pid": 0, "bundle": str(machine.bundle)})
    ended = _run("-config", str(machine.settings), "prestart", state=state)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
