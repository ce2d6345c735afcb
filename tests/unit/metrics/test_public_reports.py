# SPDX-License-Identifier: Apache-2.0
"""What users of other exporters have reported, rebuilt by hand."""

from __future__ import annotations

import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.containers import allocations
from cdi_gen.containers.model import ALLOWED, Allocation, ContainerNode, Holder, Pod
from cdi_gen.inventory.json_form import load
from cdi_gen.metrics.attribution import Users, attribute
from cdi_gen.metrics.events import RecentEvents
from cdi_gen.metrics.exposition import render
from cdi_gen.metrics.families import families
from cdi_gen.metrics.fields_file import parse_fields_file
from cdi_gen.metrics.holding import holding_containers
from cdi_gen.metrics.own import device_plugin
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from cdi_gen.metrics.web import listeners
from cdi_gen.refresh.settings import Layout
from tests.cli.program import GOLDEN
from tests.unit.metrics import snapshots
from tests.unit.metrics.parsing import Parsed, parse, presented

grpc = pytest.importorskip("grpc")
pod_resources = pytest.importorskip("cdi_gen.kubernetes.pod_resources")

# Of the README of Datadog's check for DCGM: two fields twice, blanks before commas, empty helps.
DATADOG = """\
# DCGM FIELD                                    ,Prometheus metric type ,help message
DCGM_FI_PROF_PCIE_TX_BYTES                      ,counter                ,Bytes of active pcie tx data.
DCGM_FI_DEV_FAN_SPEED                           ,gauge                  ,Fan speed in percent.
DCGM_FI_PROCESS_NAME                            ,label                  ,The Process Name.
DCGM_FI_PROF_PCIE_TX_BYTES                      ,counter                ,Bytes transmitted (in KB).
DCGM_FI_DEV_FB_TOTAL                            ,gauge                  ,
DCGM_FI_DRIVER_VERSION                          ,label                  ,
"""
SPREADSHEET = """\
# Format,,
,,
# Clocks,,
DCGM_FI_DEV_SM_CLOCK,gauge,SM clock frequency (in MHz).
,,
"""
CONFIG_MAP = """
    # Utilization, of the GPU "0" and others
    DCGM_FI_DEV_GPU_UTIL, gauge, GPU utilization (in %).
\t# Memory
    DCGM_FI_DEV_FB_FREE,\tgauge, Framebuffer memory free (in MiB).
"""


@pytest.mark.parametrize(
    ("text", "names", "skipped"),
    [
        pytest.param(
            DATADOG,
            ["DCGM_FI_PROF_PCIE_TX_BYTES", "DCGM_FI_DEV_FAN_SPEED", "DCGM_FI_DEV_FB_TOTAL"],
            ["line 5: DCGM_FI_PROF_PCIE_TX_BYTES", "line 4: DCGM_FI_PROCESS_NAME"],
            id="datadog",
        ),
        pytest.param(SPREADSHEET, ["DCGM_FI_DEV_SM_CLOCK"], [], id="spreadsheet"),
        pytest.param(
            CONFIG_MAP, ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_FREE"], [], id="config-map"
        ),
    ],
)
def test_published_files_of_fields(text: str, names: list[str], skipped: list[str]) -> None:
    """dcgm-exporter 51 and 66, integrations-core of Datadog, and guides for OpenShift."""
    file = parse_fields_file(text.encode(), "f.csv")
    assert [field.name.name for field in file.selection.fields] == names
    messages = [finding.message.removeprefix("f.csv, ") for finding in file.findings]
    assert [message.partition(" is skipped")[0] for message in messages] == skipped


EIGHT = load((GOLDEN / "hgx-550-8gpu/inventory.json").read_text())
UUID = EIGHT.gpus[0].uuid or ""


@pytest.mark.parametrize("device", [UUID, f"{UUID}::2"])
def test_a_pod_that_has_ended_does_not_hide_the_one_that_has_its_gpu_now(device: str) -> None:
    """kubernetes 119423 and 132020: the kubelet lists devices of pods that have completed."""
    node = ContainerNode(path="/dev/nvidia0", kind="c", major=195, minor=0, access=ALLOWED)
    running = replace(snapshots.pod_container(2), nodes=(node,))
    ended, now = (
        Pod(namespace="research", name=f"train-{number}", container="main") for number in (1, 2)
    )
    allocated = {
        (pod.namespace, pod.name, pod.container): (Allocation(resource="gpu", ids=(device,)),)
        for pod in (ended, now)
    }
    reading = snapshots.reading(replace(snapshots.gpu(0), uuid=UUID))
    users = Users(reading)
    holders = holding_containers((running,), EIGHT, users, allocated)
    uses = attribute(users, holders, ()).uses
    parsed = presented(Snapshot(reading=reading, holders=holders, uses=uses))
    (labels,) = parsed.labels("DCGM_FI_DEV_GPU_UTIL")
    assert labels.get("pod") == "train-2"
    assert [one["pod"] for one in parsed.labels("cdi_gen_container_info")] == ["train-2"]


@pytest.fixture
def two_pods_with_one_device(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let kubelets answer with one device of two pods; return the sockets that are asked."""
    asked: list[str] = []

    def answer(socket: str) -> list[object]:
        asked.append(socket)
        return [
            pod_resources.PodDevices("ml", pod, "main", "nvidia.com/gpu", (UUID,))
            for pod in ("train-1", "train-2")
        ]

    monkeypatch.setattr(pod_resources, "allocations", answer)
    monkeypatch.setattr(pod_resources, "allocatable", lambda _: {"nvidia.com/gpu": 8})
    return asked


def test_a_device_of_two_pods_is_counted_once(
    tmp_path: Path, two_pods_with_one_device: list[str]
) -> None:
    """kubernetes 119423 and 132020, as above."""
    (tmp_path / "var/lib/kubelet/device-plugins").mkdir(parents=True)
    (tmp_path / "var/lib/kubelet/pod-resources").mkdir()
    (tmp_path / "var/lib/kubelet/pod-resources/kubelet.sock").touch()
    (resource,) = device_plugin.examine(Layout(host_root=str(tmp_path))).resources
    assert (resource.allocatable, resource.allocated) == (8, 1)
    assert len(two_pods_with_one_device) == 1


@pytest.mark.parametrize(
    "directory",
    ["var/lib/kubelet", "var/lib/k0s/kubelet", "var/snap/microk8s/common/var/lib/kubelet"],
)
def test_kubelets_of_distributions_tell_their_pods(
    tmp_path: Path, directory: str, two_pods_with_one_device: list[str]
) -> None:
    """gpu-monitoring-tools 137, gpu-operator 745 and 1358: no labels of pods with another path."""
    socket = tmp_path / directory / "pod-resources/kubelet.sock"
    socket.parent.mkdir(parents=True)
    socket.touch()
    allocated, fault = allocations.of_kubelet(str(tmp_path))
    assert (len(allocated), fault) == (2, "")
    assert two_pods_with_one_device == [str(socket)]


def test_a_link_to_the_kubelets_own_directory_is_one_of_the_host(
    tmp_path: Path, two_pods_with_one_device: list[str]
) -> None:
    """dcgm-exporter 199 and 363: the kubelet runs with --root-dir=/opt/kubelet, and a link helps."""
    socket = tmp_path / "opt/kubelet/pod-resources/kubelet.sock"
    socket.parent.mkdir(parents=True)
    socket.touch()
    link = tmp_path / "var/lib/kubelet/pod-resources"
    link.parent.mkdir(parents=True)
    link.symlink_to("/opt/kubelet/pod-resources")
    assert len(allocations.of_kubelet(str(tmp_path))[0]) == 2
    assert two_pods_with_one_device == [str(socket)]


def test_the_same_xid_again_is_seen_and_an_alert_ends() -> None:
    """dcgm-exporter 190, 500 and 502, DCGM 277: the last Xid stays, so nobody sees the next one."""
    recent = RecentEvents()

    def shown(count: int, time: float) -> Parsed:
        gpu = snapshots.gpu(0, {**snapshots.IDLE, "xid_error": 31}, xids={31: count})
        reading = snapshots.reading(gpu, time=time)
        return parse(render(families(Snapshot(reading=reading), None, recent.update(reading))))

    first, second, later = shown(1, 1000), shown(2, 1015), shown(2, 2000)
    assert [one.value("DCGM_FI_DEV_XID_ERRORS") for one in (first, second, later)] == [31] * 3
    totals = [one.value("DCGM_EXP_XID_ERRORS_TOTAL", xid="31") for one in (first, second, later)]
    assert totals == [1, 2, 2]
    assert second.value("DCGM_EXP_XID_ERRORS_COUNT", xid="31") == 2
    assert later.values("DCGM_EXP_XID_ERRORS_COUNT") == [0]


@pytest.mark.parametrize(
    ("profile", "shown"),
    [("1g.12gb", "1g.12gb"), ("1g.12gb+me", "1g.12gb+me"), ("1c.2g.24gb", "2g.24gb")],
)
def test_a_pod_of_a_mig_device_has_its_labels_and_its_profile(profile: str, shown: str) -> None:
    """dcgm-exporter 544, 512 and 577: 1g.11gb of an H100 NVL, no memory, no labels of pods."""
    device = snapshots.mig_device(0, 0, profile)
    gpu = snapshots.gpu(0, {}, mig_enabled=True, mig=(device,))
    holder = Holder(container=snapshots.pod_container(1), devices=(snapshots.held(device),))
    use = ContainerUse(holder=holder, device="0:0", processes=1)
    snapshot = Snapshot(reading=snapshots.reading(gpu), holders=(holder,), uses=(use,))
    (labels,) = presented(snapshot).labels("DCGM_FI_DEV_FB_USED")
    assert (labels["GPU_I_PROFILE"], labels["GPU_I_ID"]) == (shown, "7")
    assert (labels["namespace"], labels["pod"]) == ("research", "train-1")


@pytest.mark.parametrize("failure", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_host_without_ipv6_listens_at_all_addresses(
    monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    """ping_exporter 20, pg_exporter 2: the kernel has no IPv6, or it is disabled."""

    class OldSocket(socket.socket):
        def __init__(self, family: int, *arguments: int) -> None:
            if family == socket.AF_INET6 and failure == errno.EAFNOSUPPORT:
                raise OSError(failure, os.strerror(failure))
            super().__init__(family, *arguments)

        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(failure, os.strerror(failure))
            super().bind(address)

    monkeypatch.setattr(socket, "socket", OldSocket)
    with closing(listeners.listen(listeners.parse(":0")).socket) as listener:
        assert listener.family == socket.AF_INET


def test_a_node_with_very_many_pods(tmp_path: Path) -> None:
    """dcgm-exporter 378, 408 and 509: received message larger than max (4753177 vs. 4194304)."""
    api = pod_resources.api
    devices = api.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=["x" * 4000])
    pods = [
        api.PodResources(
            namespace="ml",
            name=f"pod-{number}",
            containers=[api.ContainerResources(name="main", devices=[devices])],
        )
        for number in range(1200)
    ]
    answer = api.ListPodResourcesResponse(pod_resources=pods)
    assert answer.ByteSize() > 4 << 20
    handler = grpc.unary_unary_rpc_method_handler(
        lambda *_: answer, response_serializer=api.ListPodResourcesResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": handler})]
    )
    socket_path = f"{tmp_path}/kubelet.sock"
    server.add_insecure_port(f"unix:{socket_path}")
    server.start()
    try:
        assert len(pod_resources.allocations(socket_path)) == 1200
    finally:
        server.stop(None).wait()
