# SPDX-License-Identifier: Apache-2.0
"""The device plugin and a kubelet: registration, restarts of both, changes of the host."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from cdi_base.findings import Finding
from cdi_gen.cdi import wire
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes import reports
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.plugin import server
from cdi_gen.kubernetes.plugin import supervisor as module
from cdi_gen.kubernetes.plugin.supervisor import Supervisor
from cdi_gen.kubernetes.probe import Facts
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api
from cdi_gen.kubernetes.settings import DEFAULTS, Settings, SharedResource, Sharing
from tests.kubernetes.kubelet import Kubelet, wait_until
from tests.unit.kubernetes.nodes import inventory, properties

HGX = inventory("hgx-550-8gpu")
MIG = inventory("flat-550-mig-mixed")
UUIDS = [gpu.uuid or "" for gpu in HGX.gpus]
GPU = "nvidia.com/gpu"
NO_DRIVER = NoDriverError("no driver is loaded", hint="load it", code="CDG-H001")


class SetHost:
    """A host that tests change."""

    def __init__(self, state: Inventory | CdiGenError) -> None:
        self.state = state
        self.steps = 0
        """How often the supervisor has looked at the host: once a step."""
        self.asked = 0
        self.answer = threading.Event()
        self.answer.set()

    def fingerprint(self) -> object:
        self.steps += 1
        return id(self.state)

    def facts(self) -> Facts:
        self.asked += 1
        self.answer.wait(30)
        if isinstance(self.state, CdiGenError):
            raise self.state
        return Facts(inventory=self.state, properties=properties(self.state))


class Node:
    """A running device plugin and its kubelet."""

    def __init__(self, directory: Path, host: SetHost, **settings: object) -> None:
        # The path of a socket has at most 107 bytes.
        self.temporary = tempfile.TemporaryDirectory()
        self.sockets = Path(self.temporary.name)
        self.cdi = directory / "cdi"
        self.host = host
        self.kubelet = Kubelet(self.sockets)
        self.findings: list[Finding] = []
        self.settings: Settings = replace(
            DEFAULTS,
            kubelet_socket=str(self.kubelet.socket),
            cdi_root=str(self.cdi),
            **settings,  # type: ignore[arg-type]
        )
        self.supervisor = Supervisor(self.settings, host, self.findings.append)
        self.error: CdiGenError | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except CdiGenError as error:
            self.error = error

    def codes(self) -> list[str]:
        return [finding.code for finding in self.findings]

    def has_spec(self) -> bool:
        return any(self.cdi.glob("*.json"))

    def device_names(self) -> set[str]:
        (path,) = self.cdi.glob("*.json")
        return {device.name for device in wire.load(path.read_bytes()).devices}

    def count(self, resource: str = GPU) -> int:
        return len(self.kubelet.devices(resource))


StartNode = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartNode]:
    """Start a plugin on a host, and its kubelet unless ``kubelet=False``."""
    monkeypatch.setattr(module, "PROBE_INTERVAL", 0.02)
    monkeypatch.setattr(reports, "PAUSES", (0.05,))
    nodes: list[Node] = []

    def start_node(
        state: Inventory | CdiGenError = HGX, *, kubelet: bool = True, **settings: object
    ) -> Node:
        node = Node(tmp_path, SetHost(state), **settings)
        nodes.append(node)
        if kubelet:
            node.kubelet.start()
        node.thread.start()
        return node

    yield start_node
    for node in nodes:
        node.supervisor.stop()
        node.thread.join(60)
        node.kubelet.stop()
        assert not node.thread.is_alive()
        assert [path.name for path in node.sockets.iterdir() if path.name != "kubelet.sock"] == []
        node.temporary.cleanup()


def test_the_gpus_are_registered_with_their_health_and_numa_node(start: StartNode) -> None:
    node = start()
    wait_until(lambda: node.count() == 8)
    plugin = node.kubelet.plugins[GPU]
    assert plugin.devices == dict.fromkeys(UUIDS, "Healthy")
    assert plugin.topology[UUIDS[0]] == [0]
    assert plugin.topology[UUIDS[7]] == [1]
    assert plugin.options.get_preferred_allocation_available
    assert not plugin.options.pre_start_required


def test_specs_are_written_before_devices_are_advertised(start: StartNode) -> None:
    node = start(kubelet=False)
    wait_until(lambda: "CDG-N109" in node.codes())
    wait_until(node.has_spec)
    assert set(UUIDS) <= node.device_names()
    node.kubelet.start()
    wait_until(lambda: node.count() == 8)


def test_a_container_gets_names_that_the_spec_has(start: StartNode) -> None:
    node = start()
    wait_until(lambda: node.count() == 8)
    answer = node.kubelet.plugins[GPU].allocate(UUIDS[3], UUIDS[5])
    names = [device.name.partition("=")[2] for device in answer.cdi_devices]
    assert names == [UUIDS[3], UUIDS[5]]
    assert set(names) <= node.device_names()


def test_the_kubelet_chooses_what_the_plugin_prefers(start: StartNode) -> None:
    node = start()
    wait_until(lambda: node.count() == 8)
    request = api.PreferredAllocationRequest(
        container_requests=[
            api.ContainerPreferredAllocationRequest(
                available_deviceIDs=UUIDS, must_include_deviceIDs=[UUIDS[5]], allocation_size=2
            )
        ]
    )
    plugin = node.kubelet.plugins[GPU]
    answer = plugin.call("GetPreferredAllocation", request, api.PreferredAllocationResponse)
    assert list(answer.container_responses[0].deviceIDs) == [UUIDS[5], UUIDS[4]]


def test_an_unknown_device_is_refused_with_a_sentence(start: StartNode) -> None:
    node = start()
    wait_until(lambda: node.count() == 8)
    with pytest.raises(grpc.RpcError, match=r"nvidia.com/gpu has no device 'GPU-x'.*CDG-N201"):
        node.kubelet.plugins[GPU].allocate("GPU-x")


def test_after_each_restart_of_the_kubelet_the_plugin_registers_again(start: StartNode) -> None:
    node = start()
    for number in range(1, 11):
        wait_until(lambda: node.count() == 8)
        assert node.kubelet.registrations.count(GPU) >= number
        node.kubelet.restart()
    wait_until(lambda: node.count() == 8)


def test_a_deleted_socket_is_made_again(start: StartNode) -> None:
    node = start()
    wait_until(lambda: node.count() == 8)
    os.unlink(node.sockets / "nvidia-gpu.sock")
    wait_until(lambda: len(node.kubelet.registrations) >= 2)
    wait_until(lambda: node.count() == 8)


def test_threads_do_not_grow_with_restarts(start: StartNode) -> None:
    """Each kubelet leaves an open call of ListAndWatch behind."""
    node = start()
    wait_until(lambda: node.count() == 8)
    count = threading.active_count()
    for _ in range(12):
        node.kubelet.restart()
        wait_until(lambda: node.count() == 8)
    wait_until(lambda: threading.active_count() <= count + 3)


def test_a_kubelet_that_refuses_is_asked_again(start: StartNode) -> None:
    node = start(kubelet=False)
    node.kubelet.refusal = "the plugin is not wanted"
    node.kubelet.start()
    wait_until(lambda: "CDG-N104" in node.codes())
    (finding,) = [finding for finding in node.findings if finding.code == "CDG-N104"]
    assert (
        finding.message == "the kubelet does not register nvidia.com/gpu: the plugin is not wanted"
    )
    node.kubelet.refusal = None
    wait_until(lambda: node.count() == 8)
    assert node.codes().count("CDG-N104") == 1, "the same message is printed once"


def test_without_a_driver_it_waits_and_serves_when_there_is_one(start: StartNode) -> None:
    node = start(NO_DRIVER)
    wait_until(lambda: "CDG-H001" in node.codes())
    wait_until(lambda: node.host.asked > 3)
    assert node.codes().count("CDG-H001") == 1
    assert node.kubelet.registrations == []
    node.host.state = HGX
    wait_until(lambda: node.count() == 8)


def test_with_fail_on_init_error_it_ends(start: StartNode) -> None:
    node = start(NO_DRIVER)
    node.supervisor.stop()
    node.thread.join(60)
    settings = replace(node.settings, fail_on_init_error=True)
    with pytest.raises(NoDriverError):
        Supervisor(settings, node.host, node.findings.append).run()


def test_a_driver_that_goes_away_keeps_what_is_advertised(start: StartNode) -> None:
    """Pods that run keep their devices; a reload of the driver takes seconds."""
    node = start()
    wait_until(lambda: node.count() == 8)
    node.host.state = NO_DRIVER
    wait_until(lambda: "CDG-H001" in node.codes())
    assert node.count() == 8
    node.host.state = replace(HGX, gpus=HGX.gpus[:4])
    wait_until(lambda: node.count() == 4)


def test_mig_devices_come_and_go(start: StartNode) -> None:
    node = start(MIG, mig_strategy="mixed")
    profiles = {mig.profile for mig in MIG.mig_devices}
    names = {f"nvidia.com/mig-{profile.replace('+', '.')}" for profile in profiles}
    wait_until(lambda: names <= node.kubelet.plugins.keys())
    first, *_ = MIG.mig_devices
    node.host.state = replace(MIG, mig_devices=(first,))
    remaining = f"nvidia.com/mig-{first.profile.replace('+', '.')}"
    wait_until(lambda: node.count(remaining) == 1)
    others = names - {remaining}
    wait_until(lambda: not any(node.count(name) for name in others))
    assert all(node.kubelet.registrations.count(name) == 1 for name in names)
    node.host.state = MIG
    wait_until(lambda: all(node.count(name) for name in names))


def test_a_gpu_that_fails_and_recovers(start: StartNode) -> None:
    sharing = Sharing(strategy="time-slicing", resources=(SharedResource(name=GPU, replicas=3),))
    node = start(sharing=sharing)
    wait_until(lambda: node.count() == 24)
    reason = Finding("CDG-N107", "warning", "the GPU is lost")
    node.supervisor.health_changed(Change(UUIDS[2], healthy=False, finding=reason))
    replicas = {f"{UUIDS[2]}::{number}" for number in range(3)}
    wait_until(
        lambda: (
            {name for name, health in node.kubelet.devices(GPU).items() if health != "Healthy"}
            == replicas
        )
    )
    node.supervisor.health_changed(Change(UUIDS[2], healthy=True, finding=reason))
    wait_until(lambda: set(node.kubelet.devices(GPU).values()) == {"Healthy"})


def test_a_host_that_does_not_answer_stops_nothing_else(start: StartNode) -> None:
    node = start()
    wait_until(lambda: node.count() == 8)
    node.host.answer.clear()
    node.supervisor.probe_again()
    wait_until(lambda: node.host.asked == 2)
    node.kubelet.restart()
    wait_until(lambda: node.count() == 8)
    assert node.kubelet.plugins[GPU].allocate(UUIDS[0]).cdi_devices
    node.host.answer.set()


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_is_not_a_socket_is_left(start: StartNode, tmp_path: Path, kind: str) -> None:
    """A pod that may write to the directory must not make the plugin remove another file."""
    node = start(NO_DRIVER, kubelet=False)
    target = tmp_path / "target"
    target.write_text("kept")
    path = node.sockets / "nvidia-gpu.sock"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    else:
        path.write_text("kept")
    node.host.state = HGX
    wait_until(lambda: "CDG-N006" in node.codes())
    assert target.read_text() == "kept"
    assert path.is_symlink() == (kind == "link")
    path.rmdir() if kind == "directory" else path.unlink()
    node.kubelet.start()
    wait_until(lambda: node.count() == 8)


def test_a_directory_that_does_not_exist_is_said_by_the_plugin_alone(
    start: StartNode, capfd: pytest.CaptureFixture[str]
) -> None:
    """gRPC wrote a line of its own for each attempt, one a second."""
    node = start(NO_DRIVER, kubelet=False)
    node.sockets.rmdir()
    node.host.state = HGX
    wait_until(lambda: "CDG-N005" in node.codes())
    time.sleep(1.5)
    node.sockets.mkdir()
    assert "No address added" not in capfd.readouterr().err
    node.kubelet.start()
    wait_until(lambda: node.count() == 8)


def test_a_socket_that_the_kubelet_deletes_at_once_is_made_again(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubelet that starts deletes sockets while the plugin makes them."""
    identity = server._identity
    deleted: list[str] = []

    def delete_first(path: str) -> object:
        if not deleted:
            deleted.append(path)
            os.unlink(path)
        return identity(path)

    monkeypatch.setattr(server, "_identity", delete_first)
    node = start()
    wait_until(lambda: node.count() == 8)
    assert deleted


def test_specs_that_cannot_be_written_are_tried_again(start: StartNode) -> None:
    node = start(NO_DRIVER)
    node.cdi.write_text("not a directory")
    node.host.state = HGX
    wait_until(lambda: "CDG-F004" in node.codes())
    assert node.kubelet.registrations == [], "no device without its spec"
    node.cdi.unlink()
    wait_until(lambda: node.count() == 8)


def test_without_a_kubelet_socket_it_serves_and_does_not_register(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(module, "DEVICE_PLUGINS", folder)
        settings = replace(DEFAULTS, kubelet_socket="", cdi_root=str(tmp_path / "cdi"))
        supervisor = Supervisor(settings, SetHost(HGX), lambda _: None)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        wait_until((Path(folder) / "nvidia-gpu.sock").exists)
        supervisor.stop()
        thread.join(60)


def test_a_kubelet_that_closes_the_stream_gets_a_registration(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_DELAY", 0.5)
    node = start()
    wait_until(lambda: node.count() == 8)
    registrations = len(node.kubelet.registrations)
    node.kubelet.plugins[GPU].stream.cancel()
    wait_until(lambda: len(node.kubelet.registrations) > registrations)
    wait_until(lambda: node.count() == 8 and node.supervisor._servers[GPU].is_watched())
    assert "CDG-N112" in node.codes()
    # A kubelet that was slow to listen gets another registration, also in a step that began before.
    steps = node.host.steps
    wait_until(lambda: node.host.steps >= steps + 2)
    registrations = len(node.kubelet.registrations)
    time.sleep(1.5)
    assert len(node.kubelet.registrations) == registrations


def test_a_kubelet_that_never_listens_is_registered_with_less_and_less_often(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_DELAY", 0.0)
    monkeypatch.setattr(reports, "PAUSES", (0.1, 0.2, 0.4, 60.0))
    monkeypatch.setattr(server.ResourceServer, "is_watched", lambda _server: False)
    node = start()
    wait_until(lambda: len(node.kubelet.registrations) == 4)
    time.sleep(1.0)
    assert len(node.kubelet.registrations) == 4
