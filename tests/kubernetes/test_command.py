# SPDX-License-Identifier: Apache-2.0
"""The command as a process: start, signals, settings that are read again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.kubernetes.api_server import api_server, kubeconfig
from tests.kubernetes.kubelet import Kubelet, wait_until

GPU = "nvidia.com/gpu"
NODE = "/api/v1/nodes/node-1"
CONFIG_LABEL = "nvidia.com/device-plugin.config"
CONFIG = (
    "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: %d}]}}\n"
)


class Command:
    """A running device plugin and its kubelet."""

    def __init__(self, folder: Path, host: FakeHost, *options: str) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.kubelet = Kubelet(Path(self.temporary.name))
        self.kubelet.start()
        self.config = folder / "config.yaml"
        self.errors = folder / "stderr"
        words = ["-m", "cdi_gen", "kubernetes", "device-plugin"]
        words += ["--host-root", str(host.root), "--cdi-root", str(folder / "cdi"), *options]
        words += ["--kubelet-socket", str(self.kubelet.socket)]
        paths = os.pathsep.join(str(REPOSITORY / name) for name in (".", "hooks", "specs"))
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                env={**os.environ, "PYTHONPATH": paths, "DP_DISABLE_HEALTHCHECKS": "all"},
                stderr=errors,
            )

    def count(self) -> int:
        return len(self.kubelet.devices(GPU))


StartCommand = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path, host: Callable[[str], FakeHost]) -> Iterator[StartCommand]:
    commands: list[Command] = []

    def start_command(*options: str) -> Command:
        commands.append(Command(tmp_path, host("550-8gpu"), *options))
        return commands[-1]

    yield start_command
    for command in commands:
        command.process.kill()
        command.process.wait()
        command.kubelet.stop()
        command.temporary.cleanup()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_it_and_nothing_is_left(start: StartCommand, number: int) -> None:
    command = start()
    wait_until(lambda: command.count() == 8, 60)
    command.process.send_signal(number)
    assert command.process.wait(30) == 0
    assert [path.name for path in command.kubelet.directory.iterdir()] == ["kubelet.sock"]
    assert command.errors.read_text() == (
        "cdi-gen: nvidia.com/gpu is registered, 8 devices [CDG-N110]\n"
    )


def test_sighup_reads_the_config_file_again(start: StartCommand, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG % 2)
    command = start("--config-file", str(config))
    wait_until(lambda: command.count() == 16, 60)
    config.write_text(CONFIG % 3)
    command.process.send_signal(signal.SIGHUP)
    wait_until(lambda: command.count() == 24, 60)
    config.write_text(CONFIG % 0)
    command.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the settings stay as they are" in command.errors.read_text(), 60)
    assert "replicas must be 1 or more [CDG-N002]" in command.errors.read_text()
    wait_until(lambda: command.count() == 24, 60)
    config.write_text("version: v1\n")
    command.process.send_signal(signal.SIGHUP)
    wait_until(lambda: command.count() == 8, 60)


def test_a_config_file_that_is_not_valid_ends_it_at_the_start(
    start: StartCommand, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("version: v2\n")
    command = start("--config-file", str(config))
    assert command.process.wait(60) == 1
    assert "version is 'v2'; it must be v1 [CDG-N002]" in command.errors.read_text()


def test_a_config_file_that_changes_is_read_again(start: StartCommand, tmp_path: Path) -> None:
    """The kubelet replaces the link ``..data`` when a ConfigMap has changed."""
    for number in (2, 3):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "config.yaml").write_text(CONFIG % number)
    (tmp_path / "..data").symlink_to("..2")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    command = start("--config-file", str(tmp_path / "config.yaml"))
    wait_until(lambda: command.count() == 16, 60)
    (tmp_path / "..new").symlink_to("..3")
    (tmp_path / "..new").rename(tmp_path / "..data")
    wait_until(lambda: command.count() == 24, 60)
    assert "warning" not in command.errors.read_text()


def test_the_label_of_the_node_chooses_the_config(start: StartCommand, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    for replicas in (2, 3):
        (configs / f"times{replicas}").write_text(CONFIG % replicas)
    with api_server() as server:
        access = tmp_path / "kubeconfig"
        access.write_bytes(kubeconfig(clusters=[{"name": "k", "cluster": {"server": server.url}}]))
        server.change(NODE, {CONFIG_LABEL: "times2"})
        command = start(
            "--config-directory", str(configs), "--default-config", "times3",
            "--node-name", "node-1", "--kubeconfig", str(access),
        )  # fmt: skip
        wait_until(lambda: command.count() == 16, 60)
        server.change(NODE, {})
        wait_until(lambda: command.count() == 24, 60)
        server.change(NODE, {CONFIG_LABEL: "times9"})
        wait_until(lambda: "the settings stay as they are" in command.errors.read_text(), 60)
        (configs / "times9").write_text(CONFIG % 9)
        wait_until(lambda: command.count() == 72, 60)
    errors = command.errors.read_text()
    assert f"the config is {configs}/times2 [CDG-N121]" in errors
    assert "names the config times9, which does not exist [CDG-N120]" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--config-directory", "/c"), "the name of the node is not"),
        (("--config-directory", "/c", "--config-file", "/f"), "are both given"),
        (("--node-events",), "the name of the node is not"),
    ],
)
def test_options_that_need_others(start: StartCommand, options: list[str], message: str) -> None:
    command = start(*options)
    assert command.process.wait(60) == 2
    assert message in command.errors.read_text()
