# SPDX-License-Identifier: Apache-2.0
"""What the shim passes to the low-level runtime, which is a script that prints it here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from typing import Any

import pytest

from tests.runtime.machine import ENVIRONMENT, Bundle, Ended, Machine


class PrintingRuntime:
    """A low-level runtime that prints facts of its process."""

    def __init__(self, plain: Machine) -> None:
        self.machine = plain
        self.program = plain.folder / "runc"

    def set_script(self, script: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{script}\n")

    def run(self, *words: str, **how: Any) -> Ended:
        return self.machine.run(str(self.machine.shim), *words, **how)


@pytest.fixture
def printing_runtime(plain: Machine) -> PrintingRuntime:
    return PrintingRuntime(plain)


def test_arguments_reach_the_runtime_unchanged(printing_runtime: PrintingRuntime) -> None:
    printing_runtime.set_script('for word; do printf "%s|" "$word"; done')
    words = ["--root", "", "exec", "a b", "--", "-x", "é", "*"]
    assert printing_runtime.run(*words).stdout == "".join(f"{word}|" for word in words)


def test_exit_code_is_that_of_the_runtime(printing_runtime: PrintingRuntime) -> None:
    printing_runtime.set_script("exit 42")
    assert printing_runtime.run("state", "x").returncode == 42


def test_runtime_gets_signals_and_default_handlers(printing_runtime: PrintingRuntime) -> None:
    """The runtime is the same process, without Python's signal handlers."""
    printing_runtime.set_script("kill -TERM $$")
    assert printing_runtime.run("state", "x").returncode == -signal.SIGTERM
    printing_runtime.set_script("grep ^SigIgn /proc/self/status")
    ignored = int(printing_runtime.run("state", "x").stdout.split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored & 1 << number - 1


def test_environment_reaches_the_runtime_unchanged(printing_runtime: PrintingRuntime) -> None:
    printing_runtime.set_script("exec cat /proc/self/environ")
    given = ENVIRONMENT | {
        "NVIDIA_CTK_CONFIG_FILE_PATH": str(printing_runtime.machine.settings),
        "ODD": "a\nb",
        "NOTIFY_SOCKET": "/x",
    }
    for more in ({}, {"LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "POSIX"}):
        entries = printing_runtime.run("state", "x", env=given | more).stdout.split("\0")
        names = {entry.partition("=")[0]: entry.partition("=")[2] for entry in entries if entry}
        for shells in ("PWD", "OLDPWD", "SHLVL", "_"):
            names.pop(shells, None)
        assert names == given | more


def test_descriptors_reach_the_runtime(printing_runtime: PrintingRuntime) -> None:
    """--preserve-fds, and the pipes of conmon and of containerd's shim."""
    reading, writing = os.pipe()
    os.write(writing, b"through\n")
    os.close(writing)
    printing_runtime.set_script(f"cat /proc/self/fd/{reading}")
    ended = printing_runtime.machine.run(
        str(printing_runtime.machine.shim), "state", "x", pass_fds=(reading,)
    )
    os.close(reading)
    assert "through\n" in ended.stdout


def test_link_to_the_shim_is_skipped(printing_runtime: PrintingRuntime) -> None:
    shim = printing_runtime.machine.shim
    printing_runtime.program.unlink()
    printing_runtime.program.symlink_to(shim)
    ended = printing_runtime.run("state", "x")
    assert ended.returncode == 1
    assert "is a link to cdi-gen-runtime itself" in ended.stderr
    # Another runtime is used if it exists.
    other = printing_runtime.machine.folder / "crun"
    other.write_text("#!/bin/sh\necho crun\n")
    other.chmod(0o755)
    printing_runtime.machine.configure(
        runtime=f'runtimes = ["{printing_runtime.program}", "{other}"]'
    )
    assert printing_runtime.run("state", "x").stdout == "crun\n"


def test_missing_runtime_is_an_error(printing_runtime: PrintingRuntime) -> None:
    printing_runtime.machine.configure(runtime='runtimes = ["/nowhere/runc", "no-such-runtime"]')
    ended = printing_runtime.run("state", "x")
    assert ended.returncode == 1
    assert "searched for: /nowhere/runc, no-such-runtime" in ended.stderr


def test_runtime_outside_of_a_short_path_is_found(plain: Machine) -> None:
    plain.configure()
    if not shutil.which("runc"):
        pytest.skip("needs runc")
    environment = {"PATH": "/nowhere", "NVIDIA_CTK_CONFIG_FILE_PATH": str(plain.settings)}
    ended = plain.run(
        "env", "-i", *(f"{k}={v}" for k, v in environment.items()), str(plain.shim), "-v"
    )
    assert "runc version" in ended.stdout


def test_program_name_selects_the_mode(plain: Machine, bundle: Bundle) -> None:
    """For instance, installed as nvidia-container-runtime.cdi."""
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    plain.configure(runtime=f'mode = "csv"\nruntimes = ["{plain.folder}/runc"]')
    words = ("create", "--bundle", str(bundle.path), "x")
    for name, status in (("", 1), (".cdi", 0), (".legacy", 0)):
        link = plain.folder / f"nvidia-container-runtime{name}"
        link.symlink_to(plain.shim)
        bundle.write()
        assert plain.run(str(link), *words).returncode == status, name
        assert ("GPU" in bundle.environment()) is (status == 0)


def test_prestart_hooks_of_nvidia_are_removed(plain: Machine, bundle: Bundle) -> None:
    ours = {"path": "/usr/bin/mine", "args": ["nvidia-container-runtime-hook"]}
    bundle.config["hooks"] = {
        "prestart": [
            {"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["x", "prestart"]},
            ours,
            {"path": "/usr/local/bin/nvidia-container-toolkit"},
        ],
        "poststop": [{"path": "/usr/bin/nvidia-container-toolkit"}],
    }
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    plain.run(str(plain.shim), "create", "--bundle", str(bundle.path), "x")
    hooks = bundle.edited()["hooks"]
    assert hooks["prestart"] == [ours]
    assert hooks["poststop"] == bundle.config["hooks"]["poststop"]


def test_other_configuration_of_crun_is_edited(plain: Machine, bundle: Bundle) -> None:
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    other = bundle.path / "other.json"
    other.write_bytes(bundle.file.read_bytes())
    plain.run(str(plain.shim), "create", "--config", "other.json", "x", cwd=bundle.path)
    assert "GPU" not in bundle.environment()
    assert "GPU=0" in json.loads(other.read_text())["process"]["env"]


def test_default_bundle_is_the_current_directory(plain: Machine, bundle: Bundle) -> None:
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    plain.run(str(plain.shim), "create", "x", cwd=bundle.path)
    assert bundle.environment()["GPU"] == "0"


def test_other_commands_leave_the_bundle_unchanged(plain: Machine, bundle: Bundle) -> None:
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    content = bundle.file.read_bytes()
    for command in ("restore", "exec", "state", "spec"):
        assert (
            plain.run(str(plain.shim), command, "--bundle", str(bundle.path), "x").returncode == 0
        )
    assert bundle.file.read_bytes() == content


def test_other_commands_do_not_import_what_create_needs(plain: Machine) -> None:
    """Modules that only `create` needs are not imported."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    trace = plain.folder / "trace"
    words = ("strace", "-f", "-qq", "-e", "trace=openat", "-o", str(trace), str(plain.shim))
    assert plain.run(*words, "state", "x").returncode == 0
    opened = trace.read_text(errors="replace")
    assert "cdi_runtime/shim/__pycache__/main." in opened
    for name in (
        "injection",
        "resolution",
        "bundle",
        "prepared",
        "shim/__pycache__/log",
        "request",
        "container_request",
        "device_names",
        "oci_state",
        "oci_config",
        "strict_json",
        "json_object",
    ):
        assert not re.search(rf"/cdi_(base|runtime)/[^ ]*\b{name}", opened), name
    for name in ("re/", "json/", "subprocess", "typing", "dataclasses", "enum"):
        assert f"/{name}" not in opened.partition("runc")[0]


SELECTION = "CDI_GEN_LOW_LEVEL_RUNTIME"


@pytest.mark.parametrize("command", ["state", "create"])
def test_launcher_of_the_engine_selects_the_runtime(
    printing_runtime: PrintingRuntime, bundle: Bundle, command: str
) -> None:
    """Both sh and Python obey the launcher; the runtime does not see the variable."""
    printing_runtime.set_script("echo wrong")
    other = printing_runtime.machine.folder / "crun"
    other.write_text(f'#!/bin/sh\nprintf "%s|" "$0" "${SELECTION}" "$@"\n')
    other.chmod(0o755)
    launcher = printing_runtime.machine.folder / "nvidia-container-runtime"
    launcher.write_text(
        f'#!/bin/sh\nexport {SELECTION}={other}\nexec {printing_runtime.machine.shim} "$@"\n'
    )
    launcher.chmod(0o755)
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    words = (command, "--bundle", str(bundle.path), "x")
    ended = printing_runtime.machine.run(str(launcher), *words)
    assert ended.stdout == "".join(f"{word}|" for word in (str(other), "", *words)), ended
    assert ("GPU" in bundle.environment()) is (command == "create")


@pytest.mark.parametrize("command", ["state", "create"])
@pytest.mark.parametrize("named", ["/nowhere/crun", "the shim itself", "a file"])
def test_missing_selected_runtime_is_an_error(
    printing_runtime: PrintingRuntime, bundle: Bundle, command: str, named: str
) -> None:
    """No other runtime can end its containers."""
    printing_runtime.set_script("echo wrong")
    plain_file = printing_runtime.machine.folder / "plain"
    plain_file.write_text("")
    places = {"the shim itself": str(printing_runtime.machine.shim), "a file": str(plain_file)}
    settings = {SELECTION: places.get(named, named)}
    environment = ENVIRONMENT | {
        "NVIDIA_CTK_CONFIG_FILE_PATH": str(printing_runtime.machine.settings)
    }
    ended = printing_runtime.run(
        command, "--bundle", str(bundle.path), "x", env=environment | settings
    )
    assert ended.returncode == 1
    assert "wrong" not in ended.stdout
    assert settings[SELECTION] in ended.stderr
