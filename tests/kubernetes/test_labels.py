# SPDX-License-Identifier: Apache-2.0
"""Where the labels of a node go: a feature file, a NodeFeature object, the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.access import Access
from cdi_gen.kubernetes.api import Api, ApiError
from cdi_gen.kubernetes.labels.loop import Labeller
from cdi_gen.kubernetes.labels.outputs import FeatureFile, NodeFeature, NodeLabels
from cdi_gen.kubernetes.labels.settings import LabelSettings
from cdi_gen.kubernetes.probe import Facts, ProbeError
from tests.cli.program import cdi_gen
from tests.fakehost.hosts import FakeHost
from tests.host import looking
from tests.kubernetes.api_server import ApiServer, api_server, kubeconfig
from tests.kubernetes.kubelet import wait_until
from tests.unit.kubernetes.nodes import inventory

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


def api(server: ApiServer, **options: Any) -> Api:
    return Api(Access(server=server.url, **options), {})


@pytest.fixture
def reports() -> list[Finding]:
    return []


@pytest.fixture
def feature(server: ApiServer, reports: list[Finding]) -> NodeFeature:
    return NodeFeature(api(server), "node-1", "gpu", "", reports.append)


class TestNodeFeature:
    def test_the_object_is_created(self, server: ApiServer, feature: NodeFeature) -> None:
        assert feature.publish(LABELS) == "NodeFeature gpu/nvidia-features-for-node-1"
        created = server.objects[FEATURE]
        assert created["apiVersion"] == "nfd.k8s-sigs.io/v1alpha1"
        assert created["kind"] == "NodeFeature"
        assert created["metadata"]["namespace"] == "gpu"
        assert created["metadata"]["labels"] == {"nfd.node.kubernetes.io/node-name": "node-1"}
        assert "ownerReferences" not in created["metadata"]
        assert created["spec"] == {
            "features": {"flags": {}, "attributes": {}, "instances": {}},
            "labels": LABELS,
        }

    def test_an_unchanged_object_is_not_written(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        feature.publish(LABELS)
        server.requests.clear()
        assert feature.publish(dict(LABELS)) is None
        assert server.requests == [("GET", FEATURE)]

    def test_a_changed_object_is_updated_and_keeps_what_others_wrote(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        feature.publish(LABELS)
        metadata = server.objects[FEATURE]["metadata"]
        metadata["annotations"] = {"a": "b"}
        metadata["labels"]["team"] = "c"
        assert feature.publish({"nvidia.com/gpu.count": "7"})
        updated = server.objects[FEATURE]
        assert updated["spec"]["labels"] == {"nvidia.com/gpu.count": "7"}
        assert updated["metadata"]["annotations"] == {"a": "b"}
        assert updated["metadata"]["labels"]["team"] == "c"

    def test_an_object_that_was_deleted_is_created_again(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        feature.publish(LABELS)
        del server.objects[FEATURE]
        assert feature.publish(LABELS)
        assert FEATURE in server.objects

    def test_a_conflict_is_resolved(
        self, server: ApiServer, feature: NodeFeature, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feature.publish(LABELS)
        answer, conflicts = server.answer, iter([True, False])

        def conflicting(method: str, path: str, kind: str, body: Any) -> tuple[int, Any]:
            if method == "PUT" and next(conflicts):
                server.objects[FEATURE]["metadata"]["resourceVersion"] = "40"
            return answer(method, path, kind, body)

        monkeypatch.setattr(server, "answer", conflicting)
        assert feature.publish({"nvidia.com/gpu.count": "7"})
        assert server.objects[FEATURE]["spec"]["labels"] == {"nvidia.com/gpu.count": "7"}

    def test_the_owners_are_the_daemon_set_and_the_pod(
        self, server: ApiServer, reports: list[Finding]
    ) -> None:
        owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "labels", "uid": "1"}
        metadata = {
            "name": "labels-x",
            "uid": "2",
            "ownerReferences": [{**owner, "controller": True}],
        }
        server.objects[POD] = {"metadata": metadata}
        NodeFeature(api(server), "node-1", "gpu", "labels-x", reports.append).publish(LABELS)
        assert server.objects[FEATURE]["metadata"]["ownerReferences"] == [
            {**owner, "controller": True},
            {"apiVersion": "v1", "kind": "Pod", "name": "labels-x", "uid": "2"},
        ]
        assert not reports

    def test_an_unknown_pod_costs_only_the_owners(
        self, server: ApiServer, reports: list[Finding]
    ) -> None:
        output = NodeFeature(api(server), "node-1", "gpu", "labels-x", reports.append)
        output.publish(LABELS)
        output.publish({})
        assert [finding.code for finding in reports] == ["CDG-N311"]
        assert server.requests.count(("GET", POD)) == 1
        assert FEATURE in server.objects

    def test_a_cluster_without_node_feature_discovery_is_an_error_with_a_hint(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        server.collections.clear()
        with pytest.raises(ApiError, match="not found") as refusal:
            feature.publish(LABELS)
        assert refusal.value.code == "CDG-N308"
        assert "install Node Feature Discovery" in (refusal.value.hint or "")

    def test_a_missing_role_is_an_error_with_the_servers_reason(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        server.faults = [(403, "nodefeatures is forbidden")]
        with pytest.raises(ApiError, match="nodefeatures is forbidden") as refusal:
            feature.publish(LABELS)
        assert "give the service account a role" in (refusal.value.hint or "")


class TestNode:
    def test_labels_are_applied_and_those_of_an_earlier_time_removed(
        self, server: ApiServer
    ) -> None:
        output = NodeLabels(api(server), "node-1")
        assert output.publish(LABELS) == "node node-1"
        assert output.publish(LABELS) is None
        assert server.objects[NODE]["metadata"]["labels"] == {"zone": "a", **LABELS}
        output.publish({"nvidia.com/gpu.count": "7"})
        expected = {"zone": "a", "nvidia.com/gpu.count": "7"}
        assert server.objects[NODE]["metadata"]["labels"] == expected


class TestFeatureFile:
    def test_the_file_has_a_label_a_line(self, tmp_path: Path) -> None:
        path = tmp_path / "gfd"
        output = FeatureFile(str(path), temporary=True)
        assert output.publish(LABELS) == str(path)
        text = "nvidia.com/gpu.count=8\nnvidia.com/gpu.product=NVIDIA-H200\n"
        assert path.read_text() == text
        assert path.stat().st_mode & 0o777 == 0o644
        inode = path.stat().st_ino
        assert output.publish(LABELS) is None
        assert path.stat().st_ino == inode
        assert output.publish({"nvidia.com/gpu.count": "7"})
        assert os.listdir(tmp_path) == ["gfd"]
        output.withdraw()
        assert not path.exists()
        output.withdraw()

    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "gfd").symlink_to("secret")
        FeatureFile(str(tmp_path / "gfd"), temporary=False).publish(LABELS)
        assert (tmp_path / "secret").read_text() == "secret"
        assert (tmp_path / "gfd").is_file()

    def test_a_missing_directory_is_an_error_with_a_hint(self, tmp_path: Path) -> None:
        path = tmp_path / "features.d/gfd"
        with pytest.raises(CdiGenError, match="No such file or directory") as refusal:
            FeatureFile(str(path), temporary=False).publish(LABELS)
        assert refusal.value.code == "CDG-N305"
        assert f"mount the host's directory {path.parent}" in (refusal.value.hint or "")


class Host:
    """A host whose facts a test sets."""

    def __init__(self) -> None:
        self.number = 0
        self.answer: Facts | CdiGenError = Facts(inventory=inventory("hgx-550-8gpu"))

    def fingerprint(self) -> object:
        return self.number

    def facts(self) -> Facts:
        if isinstance(self.answer, CdiGenError):
            raise self.answer
        return self.answer


class Place:
    """An output that keeps what is published."""

    def __init__(self) -> None:
        self.published: list[dict[str, str]] = []
        self.error: CdiGenError | None = None

    def publish(self, labels: dict[str, str]) -> str | None:
        if self.error:
            raise self.error
        self.published.append(labels)
        return None

    def withdraw(self) -> None: ...

    @property
    def counts(self) -> list[str | None]:
        return [labels.get("nvidia.com/gpu.count") for labels in self.published]


class TestLoop:
    GONE = ProbeError("no NVIDIA driver is loaded", code="CDG-H001")

    @pytest.fixture
    def host(self) -> Host:
        return Host()

    @pytest.fixture
    def place(self) -> Place:
        return Place()

    @pytest.fixture
    def labeller(self, host: Host, place: Place, reports: list[Finding]) -> Callable[..., Labeller]:
        def of(**options: Any) -> Labeller:
            settings = LabelSettings(output_file="-", **options)
            return Labeller(settings, host, place, reports.append, 1000.0)

        return of

    def test_labels_are_published_at_each_interval(
        self, labeller: Callable[..., Labeller], place: Place
    ) -> None:
        loop = labeller(sleep_interval=60.0)
        for now in (0.0, 5.0, 59.0, 60.0, 61.0, 120.0):
            loop.step(now)
        assert place.counts == ["8", "8", "8"]
        stamps = {labels["nvidia.com/gfd.timestamp"] for labels in place.published}
        assert stamps == {"1000"}, "the time when the settings were read"

    def test_a_change_of_the_host_is_published_soon(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        loop = labeller(sleep_interval=3600.0)
        assert loop.step(0.0) == 5.0
        host.number = 1
        loop.step(5.0)
        assert place.counts == ["8", "8"]

    def test_an_infinite_interval_publishes_once(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        loop = labeller(sleep_interval=None)
        for now in (0.0, 5.0, 1e6):
            loop.step(now)
            host.number += 1
        assert place.counts == ["8"]

    def test_a_host_without_a_driver_is_waited_for(
        self,
        labeller: Callable[..., Labeller],
        host: Host,
        place: Place,
        reports: list[Finding],
    ) -> None:
        whole, host.answer = host.answer, self.GONE
        loop = labeller()
        waits = [loop.step(now) for now in (0.0, 1.0, 3.0)]
        assert waits == [1.0, 2.0, 5.0]
        assert place.counts == [None], "the labels of an earlier time are withdrawn"
        host.answer = whole
        loop.step(8.0)
        assert place.counts == [None, "8"]
        assert [finding.code for finding in reports] == ["CDG-H001"]

    def test_labels_stay_while_the_host_cannot_be_examined(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        loop = labeller(fail_on_init_error=True)
        loop.step(0.0)
        host.answer = ProbeError("NVML has not answered for 60 s", code="CDG-N107")
        loop.step(60.0)
        assert place.counts == ["8"]

    def test_a_host_without_a_driver_is_an_error_if_the_settings_say_so(
        self, labeller: Callable[..., Labeller], host: Host
    ) -> None:
        host.answer = self.GONE
        with pytest.raises(ProbeError):
            labeller(fail_on_init_error=True).step(0.0)
        with pytest.raises(ProbeError):
            labeller(oneshot=True).publish_once()

    def test_one_shot_without_a_driver_can_be_a_success(
        self, labeller: Callable[..., Labeller], host: Host, place: Place
    ) -> None:
        host.answer = self.GONE
        labeller(oneshot=True, fail_on_init_error=False).publish_once()
        assert place.published == [{"nvidia.com/gfd.timestamp": "1000"}]

    def test_a_failed_publication_is_repeated_and_reported_once(
        self, labeller: Callable[..., Labeller], place: Place, reports: list[Finding]
    ) -> None:
        loop = labeller()
        place.error = ApiError("the API server does not answer")
        assert [loop.step(now) for now in (0.0, 1.0, 3.0, 8.0)] == [1.0, 2.0, 5.0, 5.0]
        assert [finding.code for finding in reports] == ["CDG-N307"]
        place.error = None
        loop.step(18.0)
        assert place.counts == ["8"]

    def test_the_machine_type_is_read_from_a_file(
        self, labeller: Callable[..., Labeller], place: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "machine").write_text("My Machine\n")
        for path, name in ((tmp_path / "machine", "My-Machine"), (tmp_path / "none", "unknown")):
            labeller(machine_type_file=str(path)).publish_once()
            assert place.published[-1]["nvidia.com/gpu.machine"] == name


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

        def run(*words: str, name: str = "550-1gpu") -> subprocess.Popen[str]:
            command = (sys.executable, "-m", "cdi_gen", "kubernetes", "labels")
            root = ("--host-root", str(host(name).root))
            environment = {"PATH": os.environ["PATH"], "PYTHONPATH": looking.SOURCES}
            processes.append(
                subprocess.Popen(
                    [*command, *root, *words], env=environment, stderr=subprocess.PIPE, text=True
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
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, "Traceback" in errors) == (0, False)
        assert os.listdir(tmp_path) == []

    def test_the_file_stays_with_an_infinite_interval(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "gfd"
        process = start("--output-file", str(path), "--sleep-interval=infinite")
        wait_until(path.exists)
        process.terminate()
        assert process.wait(10) == 0
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
        assert process.wait(10) == 0
        assert not path.exists()

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
        _, errors = process.communicate(timeout=5)
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
        server.answer = lambda *_: (hangs.wait(30), {})  # type: ignore[method-assign]
        config = tmp_path / "kubeconfig"
        config.write_bytes(kubeconfig(clusters=[{"name": "k", "cluster": {"server": server.url}}]))
        process = start("--kubeconfig", str(config), "--node-name", "node-1")
        wait_until(lambda: server.requests)
        process.terminate()
        assert process.wait(5) == 0
        hangs.set()
