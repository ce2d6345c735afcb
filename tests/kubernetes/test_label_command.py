# SPDX-License-Identifier: Apache-2.0
"""The command `cdi-gen kubernetes labels` as a user and as a pod run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.program import cdi_gen
from tests.fakehost.hosts import FakeHost
from tests.host import looking, platform_hosts
from tests.kubernetes.api_server import ApiServer, api_server, kubeconfig
from tests.kubernetes.kubelet import wait_until

LABELS = {"nvidia.com/gpu.count": "8", "nvidia.com/gpu.product": "NVIDIA-H200"}
FEATURES = "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/gpu/nodefeatures"
FEATURE = f"{FEATURES}/nvidia-features-for-node-1"
NODE = "/api/v1/nodes/node-1"
POD = "/api/v1/namespaces/gpu/pods/labels-x"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        running.collections.add(FEATURES)
        running.objects[NODE] = {"metadata": {"labels": {"zone": "a"}, "resourceVersion": "7"}}
        yield running


class TestCommand:
    """The command on a fake host."""

    @pytest.fixture
    def gpu_host(self, host: Callable[[str], FakeHost]) -> tuple[str, ...]:
        return ("--host-root", str(host("550-mig-mixed").root))

    def run(self, *words: str, env: dict[str, str] | None = None) -> Any:
        return cdi_gen("kubernetes", "labels", *words, env=env)

    def test_labels_are_printed_once(self, gpu_host: tuple[str, ...]) -> None:
        done = self.run("--oneshot", "-o", "-", "--no-timestamp", *gpu_host)
        assert (done.code, done.err) == (0, "")
        assert "nvidia.com/gpu.product=NVIDIA-A100-SXM4-40GB\n" in done.out
        assert "timestamp" not in done.out
        assert done.out.splitlines() == sorted(done.out.splitlines())

    def test_switches_have_values_as_in_go(self, gpu_host: tuple[str, ...]) -> None:
        words = ("--oneshot=true", "--no-timestamp=false", "--use-node-feature-api=false")
        done = self.run(*words, "--output-file=", "--mig-strategy=mixed", *gpu_host)
        assert done.code == 0
        assert "nvidia.com/gfd.timestamp=" in done.out
        assert "nvidia.com/mig-1c.3g.20gb.count=3\n" in done.out

    def test_variables_and_the_config_file(self, gpu_host: tuple[str, ...], tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(
            "version: v1\n"
            "flags: {migStrategy: single, gfd: {oneshot: true, noTimestamp: true, outputFile: '-'}}\n"
            "sharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 2}]}}\n"
        )
        env = {"CONFIG_FILE": str(config), "GFD_MIG_STRATEGY": "mixed"}
        done = self.run(*gpu_host, env=env)
        assert done.code == 0
        assert "nvidia.com/mig.strategy=mixed\n" in done.out
        assert "nvidia.com/mig-1g.5gb.replicas=2\n" in done.out
        assert "nvidia.com/mig-1g.5gb.product=NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED" in done.out

    def test_labels_go_to_the_api_server(
        self, gpu_host: tuple[str, ...], server: ApiServer, tmp_path: Path
    ) -> None:
        config = tmp_path / "kubeconfig"
        config.write_bytes(kubeconfig(clusters=[{"name": "k", "cluster": {"server": server.url}}]))
        env = {"KUBECONFIG": str(config), "NODE_NAME": "node-1", "NAMESPACE": "gpu"}
        done = self.run("--oneshot", *gpu_host, env=env)
        assert done.code == 0
        assert "labels are published: NodeFeature gpu/nvidia-features-for-node-1" in done.err
        assert server.objects[FEATURE]["spec"]["labels"]["nvidia.com/gpu.count"] == "3"
        assert set(server.tokens) == {"Bearer secret"}
        assert self.run("--oneshot", "--patch-node", *gpu_host, env=env).code == 0
        assert server.objects[NODE]["metadata"]["labels"]["nvidia.com/gpu.count"] == "3"

    def test_a_process_outside_of_a_cluster_is_told_what_to_do(
        self, gpu_host: tuple[str, ...]
    ) -> None:
        done = self.run(*gpu_host)
        assert done.code == 2
        assert "the name of the node is not given" in done.err
        done = self.run("--node-name", "node-1", *gpu_host)
        assert done.code == 1
        assert "this process does not run in a pod" in done.err
        assert "[CDG-N306]" in done.err

    @pytest.mark.parametrize("by", ["flag", "file"])
    def test_gpus_for_virtual_machines_are_described_when_asked_for(
        self, tmp_path: Path, by: str
    ) -> None:
        host = platform_hosts.passthrough(tmp_path / "host", 4)
        config = tmp_path / "config.yaml"
        strategy = "{deviceDiscoveryStrategy: vfio}" if by == "file" else "{}"
        config.write_text(f"version: v1\nflags: {strategy}\n")
        words = ["--oneshot", "-o", "-", "--host-root", str(host.root)]
        assert self.run(*words).code == 3
        words += ["--config-file", str(config)]
        done = self.run(*words, *(["--device-discovery-strategy=vfio"] if by == "flag" else []))
        assert (done.code, done.err) == (0, "")
        assert "nvidia.com/gpu.product=GH100-H100-SXM5-80GB\n" in done.out
        assert "nvidia.com/gpu.count=4\n" in done.out

    def test_a_host_without_a_driver(self, host: Callable[[str], FakeHost]) -> None:
        words = ("--oneshot", "-o", "-", "--host-root", str(host("550-unloaded").root))
        done = self.run(*words)
        assert (done.code, done.out) == (3, "")
        assert "no NVIDIA driver is loaded" in done.err
        done = self.run(*words, "--no-fail-on-init-error", "--no-timestamp")
        assert (done.code, done.out) == (0, "")


class TestProcess:
    """The command as a process that runs until a signal."""

    @pytest.fixture
    def start(self, host: Callable[[str], FakeHost]) -> Iterator[Callable[..., Any]]:
        processes: list[subprocess.Popen[str]] = []

        def run(
            *words: str, name: str = "550-1gpu", errors: int | IO[str] = subprocess.PIPE
        ) -> subprocess.Popen[str]:
            command = (sys.executable, "-m", "cdi_gen", "kubernetes", "labels")
            root = ("--host-root", str(host(name).root))
            environment = {"PATH": os.environ["PATH"], "PYTHONPATH": looking.SOURCES}
            processes.append(
                subprocess.Popen(
                    [*command, *root, *words], env=environment, stderr=errors, text=True
                )
            )
            return processes[-1]

        yield run
        for process in processes:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
    def test_the_file_is_removed_at_the_end(
        self, start: Callable[..., Any], tmp_path: Path, number: int
    ) -> None:
        path = tmp_path / "gfd"
        process = start("--output-file", str(path))
        wait_until(path.exists)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in errors) == (0, False)
        assert os.listdir(tmp_path) == []

    def test_the_file_stays_with_an_infinite_interval(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "gfd"
        process = start("--output-file", str(path), "--sleep-interval=infinite")
        wait_until(path.exists)
        process.terminate()
        assert process.wait(60) == 0
        assert path.exists()

    def test_a_hangup_reads_the_settings_again(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        path, config = tmp_path / "gfd", tmp_path / "config"
        config.write_text("version: v1")
        process = start("--output-file", str(path), "--config-file", str(config))
        wait_until(path.exists)
        for strategy in ("mixed", "single"):
            config.write_text(f"version: v1\nflags: {{migStrategy: {strategy}}}")
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: f"mig.strategy={strategy}" in path.read_text())  # noqa: B023
        process.terminate()
        assert process.wait(60) == 0
        assert not path.exists()

    def test_settings_that_are_not_valid_any_more_change_nothing(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        """A mistake in the ConfigMap ended the process, and removed the labels of the node."""
        path, config, errors = (tmp_path / name for name in ("gfd", "config", "errors"))
        config.write_text("version: v1")
        with errors.open("w") as stream:
            process = start("--output-file", str(path), "--config-file", str(config), errors=stream)
        wait_until(path.exists)
        config.write_text("version: v2")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the settings stay as they are" in errors.read_text())
        assert process.poll() is None
        assert path.exists()
        config.write_text("version: v1\nflags: {migStrategy: mixed}")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "mig.strategy=mixed" in path.read_text())
        process.terminate()
        assert process.wait(60) == 0

    def test_many_hangups_do_not_end_the_process(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        """A second one that came while the first was handled was taken for the end."""
        path = tmp_path / "gfd"
        process = start("--output-file", str(path))
        wait_until(path.exists)
        for number in range(3000):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.0001 * (number % 7))
        path.unlink(missing_ok=True)
        process.send_signal(signal.SIGHUP)
        wait_until(path.exists)
        process.terminate()
        assert process.wait(60) == 0

    @pytest.mark.parametrize("milliseconds", [0, 5, 50, 200])
    def test_a_signal_while_the_settings_are_read_again_ends_the_process(
        self, start: Callable[..., Any], tmp_path: Path, milliseconds: int
    ) -> None:
        path = tmp_path / "gfd"
        process = start("--output-file", str(path))
        wait_until(path.exists)
        process.send_signal(signal.SIGHUP)
        time.sleep(milliseconds / 1000)
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in errors) == (0, False)
        assert not path.exists()

    def test_a_file_that_was_deleted_is_written_again(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "gfd"
        start("--output-file", str(path), "--sleep-interval", "300ms")
        wait_until(path.exists)
        path.unlink()
        wait_until(path.exists)

    def test_a_signal_ends_a_request_to_a_server_that_hangs(
        self, start: Callable[..., Any], server: ApiServer, tmp_path: Path
    ) -> None:
        hangs = threading.Event()
        server.answer = lambda *_: (hangs.wait(200), {})  # type: ignore[method-assign]
        config = tmp_path / "kubeconfig"
        config.write_bytes(kubeconfig(clusters=[{"name": "k", "cluster": {"server": server.url}}]))
        process = start("--kubeconfig", str(config), "--node-name", "node-1")
        wait_until(lambda: server.requests)
        process.terminate()
        assert process.wait(60) == 0
        hangs.set()
        hangs.set()
