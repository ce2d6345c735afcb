# SPDX-License-Identifier: Apache-2.0
"""What users of other exporters have reported, rebuilt by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.containers import allocations
from cdi_gen.containers.model import ALLOWED, Allocation, ContainerNode, Pod
from cdi_gen.inventory.json_form import load
from cdi_gen.metrics.attribution import Users, attribute
from cdi_gen.metrics.fields_file import parse_fields_file
from cdi_gen.metrics.holding import holding_containers
from cdi_gen.metrics.own import device_plugin
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.refresh.settings import Layout
from tests.cli.program import GOLDEN
from tests.unit.metrics import snapshots
from tests.unit.metrics.parsing import presented

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
