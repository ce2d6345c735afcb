# SPDX-License-Identifier: Apache-2.0
"""Public reports about device plugins, rebuilt with the plugin and the stand-in of a kubelet."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from dataclasses import replace
from typing import Any

import grpc
import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.plugin.observer import Observers
from cdi_gen.kubernetes.plugin.server import ResourceServer, State
from cdi_gen.kubernetes.plugin.supervisor import Supervisor
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api
from cdi_gen.kubernetes.resources.device import Resource
from cdi_gen.kubernetes.settings import DEFAULTS, SharedResource, Sharing
from tests.kubernetes.kubelet import wait_until
from tests.kubernetes.test_supervisor import GPU, SetHost, StartNode, start
from tests.unit.kubernetes.nodes import inventory

__all__ = ["start"]


def shared(replicas: int, devices: int) -> Sharing:
    resource = SharedResource(name=GPU, replicas=replicas, devices=devices)
    return Sharing(strategy="time-slicing", resources=(resource,))


def test_devices_that_fill_a_message_can_be_allocated(start: StartNode) -> None:
    """NVIDIA/k8s-device-plugin#1433 (2025): 16384 replicas, one for each share of the memory."""
    node = start(sharing=shared(16384, 2))
    wait_until(lambda: node.count() == 2 * 16384 + 6)
    request = api.PreferredAllocationRequest(
        container_requests=[
            api.ContainerPreferredAllocationRequest(
                available_deviceIDs=node.kubelet.devices(GPU), allocation_size=1
            )
        ]
    )
    plugin = node.kubelet.plugins[GPU]
    answer = plugin.call("GetPreferredAllocation", request, api.PreferredAllocationResponse)
    assert len(answer.container_responses[0].deviceIDs) == 1


def test_more_devices_than_a_message_holds_are_an_error_with_the_number(start: StartNode) -> None:
    """Project-HAMi/volcano-vgpu-device-plugin#99 and #134 (2026): the node had 0 devices."""
    node = start(sharing=shared(80000, 1))
    wait_until(lambda: "CDG-N113" in node.codes())
    (finding,) = [finding for finding in node.findings if finding.code == "CDG-N113"]
    most = int(finding.fix.split()[3])
    assert 60000 < most < 80000
    node.supervisor.stop()
    again = start(sharing=shared(most, 1))
    wait_until(lambda: again.count() == most + 7)


def test_two_plugins_at_once_do_not_fight_for_the_socket(start: StartNode) -> None:
    """kubernetes/kubernetes#135437 (2025): an upgrade by maxSurge, the new pod beside the old one.

    The newer one serves; when it ends, as a pod that does not become ready, the older one goes on.
    """
    old = start()
    wait_until(lambda: old.count() == 8)
    kubelet, settings = old.kubelet, old.settings
    new = Supervisor(settings, SetHost(inventory("flat-550-1gpu")), lambda _: None)
    thread = threading.Thread(target=new.run, daemon=True)
    thread.start()
    wait_until(lambda: old.count() == 1)
    wait_until(lambda: "CDG-N114" in old.codes())
    old.supervisor.probe_again()
    time.sleep(0.3)
    assert len(kubelet.registrations) == 2
    new.stop()
    thread.join(60)
    wait_until(lambda: old.count() == 8)
    assert len(kubelet.registrations) == 3


def test_the_socket_of_the_old_plugin_is_there_until_the_new_one_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without one for a moment, the old plugin made a new one, in place of the new plugin's."""
    create = grpc.server

    def create_beside_the_old(*arguments: Any, **options: Any) -> grpc.Server:
        created = create(*arguments, **options)
        serve = created.start

        def start() -> None:
            serve()
            assert old.is_listening()

        created.start = start  # type: ignore[method-assign]
        return created

    with tempfile.TemporaryDirectory() as folder:
        state = State(resource=Resource(name=GPU, devices=()), settings=DEFAULTS)
        old, new = (ResourceServer(state, folder, Observers()) for _ in range(2))
        old.start()
        monkeypatch.setattr(grpc, "server", create_beside_the_old)
        new.start()
        assert old.is_superseded()
        assert new.is_listening()
        old.stop()
        assert new.is_listening()
        assert os.listdir(folder) == ["nvidia-gpu.sock"]
        new.stop()
        assert os.listdir(folder) == []


def test_the_end_of_the_old_plugin_costs_the_new_one_nothing(start: StartNode) -> None:
    """kubernetes/kubernetes#135437 (2025): the resource went to 0 when the old pod ended."""
    old = start()
    wait_until(lambda: old.count() == 8)
    new = Supervisor(old.settings, SetHost(inventory("flat-550-1gpu")), lambda _: None)
    thread = threading.Thread(target=new.run, daemon=True)
    thread.start()
    wait_until(lambda: old.count() == 1)
    old.supervisor.stop()
    old.thread.join(60)
    # gRPC removes the path of a socket that it closes, also if another process has made it since.
    time.sleep(0.3)
    wait_until(
        lambda: old.count() == 1 and old.kubelet.plugins[GPU].allocate(*old.kubelet.devices(GPU))
    )
    assert len(old.kubelet.registrations) <= 3
    new.stop()
    thread.join(60)


def test_a_socket_of_a_killed_plugin_is_replaced(start: StartNode) -> None:
    """NVIDIA/k8s-device-plugin#1252 (2025): also where the kubelet has another root directory."""
    node = start()
    wait_until(lambda: node.count() == 8)
    path = node.sockets / "nvidia-gpu.sock"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    wait_until(lambda: len(node.kubelet.registrations) >= 2)
    # The new plugin is registered before its first list of devices arrives.
    wait_until(lambda: node.count() == 8)


def test_a_new_mig_device_is_in_the_spec_when_the_kubelet_sees_it(start: StartNode) -> None:
    """Project-HAMi/HAMi#1903 (2026): "unresolvable CDI devices … gpu=MIG-4c0f3a50-…"."""
    whole = inventory("flat-550-mig-mixed")
    divided = whole.mig_devices
    node = start(replace(whole, mig_devices=divided[:1]), mig_strategy="mixed")
    resource = f"nvidia.com/mig-{divided[1].profile}"
    wait_until(lambda: node.kubelet.registrations)
    assert divided[1].uuid not in node.device_names()
    node.host.state = whole
    wait_until(lambda: divided[1].uuid in node.kubelet.devices(resource))
    assert {*node.kubelet.devices(resource)} <= node.device_names()


def test_an_nvml_that_fails_later_costs_no_allocation(start: StartNode) -> None:
    """NVIDIA/k8s-device-plugin#1640 (2026): GetPreferredAllocation failed, pods without an end."""
    node = start()
    wait_until(lambda: node.count() == 8)
    node.host.state = CdiGenError("NVML reports: Unknown Error", code="CDG-N108")
    wait_until(lambda: "CDG-N108" in node.codes())
    request = api.PreferredAllocationRequest(
        container_requests=[
            api.ContainerPreferredAllocationRequest(
                available_deviceIDs=node.kubelet.devices(GPU), allocation_size=2
            )
        ]
    )
    plugin = node.kubelet.plugins[GPU]
    answer = plugin.call("GetPreferredAllocation", request, api.PreferredAllocationResponse)
    chosen = answer.container_responses[0].deviceIDs
    assert [name.name for name in plugin.allocate(*chosen).cdi_devices] == [
        f"k8s.device-plugin.nvidia.com/gpu={uuid}" for uuid in chosen
    ]
