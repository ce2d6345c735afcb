# SPDX-License-Identifier: Apache-2.0
"""The samples of a snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.containers.model import Allocation, Holder
from cdi_gen.metrics.catalogue import NEW, OLD, SelectedField, default_selection, fields
from cdi_gen.metrics.events import RecentEvents
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from tests.unit.metrics import snapshots
from tests.unit.metrics.parsing import presented

GPU_0 = {
    "gpu": "0",
    "UUID": "GPU-00000000-0000-4000-8000-000000000000",
    "pci_bus_id": "00000000:18:00.0",
    "device": "nvidia0",
    "modelName": "NVIDIA H100 80GB HBM3",
}
BOTH = (OLD, NEW)
LINK = "DCGM_FI_DEV_NVLINK_THROUGHPUT_PER_LINK"


@pytest.mark.parametrize("set_name", BOTH)
def test_idle_gpu_has_every_default_field(set_name: str) -> None:
    parsed = presented(snapshots.idle(), Options(names=(set_name,)))
    for field in fields():
        if set_name in field.default:
            name = field.names[set_name]
            value = name.value(snapshots.IDLE[field.key])
            assert parsed.value(name.name) == pytest.approx(value)
            assert parsed.types[name.name.removesuffix("_total")] == name.type


def test_both_sets_of_names() -> None:
    parsed = presented(snapshots.idle(), Options(names=BOTH, hostname="node-1"))
    assert parsed.value("DCGM_FI_DEV_SM_CLOCK", Hostname="node-1") == 345
    assert parsed.value("DCGM_FI_DEV_SM_CLOCK_HERTZ", hostname="node-1") == 345e6
    assert parsed.value("DCGM_FI_PROF_PCIE_TX_BYTES") == 0


@pytest.mark.parametrize(
    ("set_name", "name", "labels"),
    [
        (
            OLD,
            "DCGM_FI_DEV_GPU_TEMP",
            {"Hostname": "node-1", "DCGM_FI_DRIVER_VERSION": "580.95.05"},
        ),
        (
            NEW,
            "DCGM_FI_DEV_GPU_TEMP_CELSIUS",
            {"hostname": "node-1", "DCGM_FI_SYSTEM_DRIVER_VERSION": "580.95.05"},
        ),
    ],
)
def test_labels_of_a_gpu(set_name: str, name: str, labels: dict[str, str]) -> None:
    parsed = presented(snapshots.idle(), Options(names=(set_name,), hostname="node-1"))
    assert parsed.labels(name) == [{**GPU_0, **labels}]


def test_pci_address_is_written_as_by_nvml() -> None:
    parsed = presented(snapshots.eight())
    addresses = [labels["pci_bus_id"] for labels in parsed.labels("DCGM_FI_DEV_GPU_TEMP")]
    assert addresses[2:4] == ["00000000:1A:00.0", "00000000:1B:00.0"]


def test_labels_of_a_gpu_instance() -> None:
    """Two MIG devices of one GPU instance are one entity, with the profile of the instance."""
    parsed = presented(snapshots.mig())
    instances = [
        (labels.get("GPU_I_PROFILE"), labels.get("GPU_I_ID"))
        for labels in parsed.labels("DCGM_FI_DEV_FB_USED")
        if labels["gpu"] == "0"
    ]
    assert instances == [(None, None), ("1g.10gb", "7"), ("1g.10gb", "8"), ("2g.20gb", "3")]
    uuids = {labels["UUID"] for labels in parsed.labels("DCGM_FI_PROF_GR_ENGINE_ACTIVE")}
    assert uuids == {snapshots.uuid(0), snapshots.uuid(1)}


def test_gpu_instance_has_only_fields_of_its_own() -> None:
    parsed = presented(snapshots.mig())
    assert parsed.values("DCGM_FI_DEV_GPU_TEMP", gpu="0", GPU_I_ID="7") == []
    assert parsed.values("DCGM_FI_DEV_GPU_UTIL", gpu="0") == []


def test_labels_of_an_nvlink() -> None:
    default = default_selection((OLD,))
    (field,) = (field for field in fields() if OLD in field.names and field.names[OLD].name == LINK)
    selection = default._replace(fields=(SelectedField(field, OLD, field.names[OLD], field.help),))
    parsed = presented(snapshots.eight(), Options(hostname="node-1", selection=selection))
    assert parsed.labels(LINK)[1] == {
        "nvlink": "1",
        "gpu": "0",
        "gpu_uuid": GPU_0["UUID"],
        "pci_bus_id": GPU_0["pci_bus_id"],
        "device": "nvidia0",
        "model_name": GPU_0["modelName"],
        "Hostname": "node-1",
        "DCGM_FI_DRIVER_VERSION": "580.95.05",
    }


@pytest.mark.parametrize(
    ("gpu", "labels"),
    [
        ("1", {"container": "job-1"}),
        ("3", {"container": "main", "namespace": "research", "pod": "train-2"}),
        ("4", {"container": "lazy"}),
        ("5", {}),
        ("7", {}),
    ],
)
def test_device_has_the_labels_of_its_only_container(gpu: str, labels: dict[str, str]) -> None:
    parsed = presented(snapshots.eight())
    (of_gpu,) = (item for item in parsed.labels("DCGM_FI_DEV_FB_USED") if item["gpu"] == gpu)
    assert {key: of_gpu[key] for key in ("container", "namespace", "pod") if key in of_gpu} == (
        labels
    )


def test_shared_device_has_no_labels_of_a_container() -> None:
    (labels,) = presented(snapshots.shared()).labels("DCGM_FI_DEV_FB_USED")
    assert not {"container", "namespace", "pod"} & labels.keys()


def privileged(snapshot: Snapshot, **facts: Any) -> Snapshot:
    """Add a privileged container, which can use every GPU, with what it does with GPU 3."""
    container = snapshots.container(90)
    allocations = facts.pop("allocations", ())
    holder = Holder(container=container, devices=(), has_all=True, allocations=allocations)
    uses = [ContainerUse(holder=holder, device=str(n), processes=0, memory=0) for n in range(8)]
    uses[3] = replace(uses[3], **facts)
    return replace(snapshot, holders=(*snapshot.holders, holder), uses=(*snapshot.uses, *uses))


def test_privileged_container_without_processes_hides_no_container() -> None:
    parsed = presented(privileged(snapshots.eight()))
    assert parsed.value("DCGM_FI_DEV_FB_USED", gpu="3", pod="train-2")
    assert parsed.values("cdi_gen_container_gpu_held", name="job-90") == []
    assert parsed.value("cdi_gen_container_info", name="job-90") == 1


def test_privileged_container_has_samples_of_the_gpus_that_it_uses() -> None:
    parsed = presented(privileged(snapshots.eight(), processes=1, memory=5))
    assert parsed.value("DCGM_FI_DEV_FB_USED", gpu="3", pod="train-2")
    assert parsed.value("cdi_gen_container_gpu_memory_used_bytes", name="job-90") == 5


def test_privileged_container_has_the_gpu_that_the_kubelet_allocated() -> None:
    allocation = Allocation(resource="nvidia.com/gpu", ids=(snapshots.uuid(7),))
    parsed = presented(privileged(snapshots.eight(), allocations=(allocation,)))
    assert parsed.value("cdi_gen_container_gpu_held", name="job-90", gpu="7") == 1
    assert parsed.value("DCGM_FI_DEV_FB_USED", gpu="7", container="job-90")


def test_idle_is_0_and_unknown_is_absent() -> None:
    parsed = presented(snapshots.shared())
    used = "cdi_gen_container_gpu_memory_used_bytes"
    assert parsed.value(used, name="job-1") == 3 * snapshots.GIB
    assert parsed.values(used, pod="train-2") == []
    assert parsed.value("cdi_gen_container_gpu_held", pod="train-2") == 1
    idle = presented(snapshots.eight())
    assert idle.value(used, name="lazy") == 0
    assert idle.value("cdi_gen_container_gpu_utilization_ratio", name="lazy") == 0
    assert idle.values("cdi_gen_container_gpu_encoder_utilization_ratio", name="lazy") == []


def test_labels_of_a_container() -> None:
    snapshot = snapshots.eight()
    parsed = presented(snapshot)
    (labels,) = (
        item for item in parsed.labels("cdi_gen_container_gpu_held") if item.get("pod") == "train-2"
    )
    assert labels == {
        "engine": "containerd",
        "container_id": f"{2:064x}",
        "name": "main",
        "namespace": "research",
        "pod": "train-2",
        "container": "main",
        "gpu": "3",
        "UUID": snapshots.uuid(3),
    }
    assert parsed.value(
        "cdi_gen_container_info", image="docker.io/pytorch/pytorch:2.9", name="lazy"
    )


def test_labels_of_a_container_with_a_mig_device() -> None:
    parsed = presented(snapshots.mig())
    held = [
        (labels["GPU_I_PROFILE"], labels["GPU_I_ID"], labels["mig_uuid"])
        for labels in parsed.labels("cdi_gen_container_gpu_held")
        if labels["name"] == "job-3"
    ]
    assert held == [
        ("2g.20gb", "3", snapshots.mig_uuid(0, 2)),
        ("2g.20gb", "3", snapshots.mig_uuid(0, 3)),
    ]


def test_unit_and_user_of_a_rootless_container() -> None:
    container = snapshots.container(1, unit="train.service", user="alice")
    snapshot = replace(
        snapshots.idle(),
        holders=(Holder(container=container, devices=()),),
        uses=(ContainerUse(holder=Holder(container=container, devices=()), device="0"),),
    )
    (labels,) = presented(snapshot).labels("cdi_gen_container_gpu_held")
    assert (labels["unit"], labels["user"]) == ("train.service", "alice")


def test_processes_of_the_host() -> None:
    parsed = presented(snapshots.eight())
    assert parsed.value("cdi_gen_host_gpu_memory_used_bytes", gpu="5") == 10 * snapshots.GIB
    assert presented(snapshots.shared()).values("cdi_gen_host_gpu_memory_used_bytes") == []


def test_gpu_with_a_fault_has_no_values() -> None:
    parsed = presented(snapshots.faults())
    assert [labels["gpu"] for labels in parsed.labels("DCGM_FI_DEV_GPU_TEMP")] == ["2"]
    assert [parsed.value("cdi_gen_metrics_gpu_up", gpu=gpu) for gpu in "012"] == [0, 0, 1]
    assert parsed.value("cdi_gen_metrics_gpu_timeouts_total", gpu="0") == 3
    assert parsed.value("cdi_gen_metrics_unseen") == 1


def test_host_whose_driver_does_not_answer() -> None:
    parsed = presented(snapshots.no_driver())
    assert parsed.value("cdi_gen_metrics_up") == 0
    assert not [sample for sample in parsed.samples if sample.name.startswith("DCGM")]


def test_last_xid_has_dcgm_exporters_labels() -> None:
    parsed = presented(snapshots.faults())
    assert parsed.value("DCGM_FI_DEV_XID_ERRORS", err_code="79") == 79
    assert presented(snapshots.idle()).value("DCGM_FI_DEV_XID_ERRORS", err_msg="No Error") == 0


def test_xids_of_gpu_instances_are_not_counted_twice() -> None:
    parsed = presented(snapshots.mig())
    totals = "DCGM_EXP_XID_ERRORS_TOTAL"
    assert parsed.value(totals, GPU_I_ID="7", xid="43") == 2
    assert sum(parsed.values(totals, xid="43")) == 2
    assert parsed.value(totals, xid="79") == 1


def test_clock_events() -> None:
    parsed = presented(snapshots.faults())
    assert parsed.value("DCGM_EXP_CLOCK_EVENTS_TOTAL", clock_event="power_cap") == 7
    active = {
        labels["clock_event"]
        for labels in parsed.labels("cdi_gen_gpu_clock_event_active")
        if parsed.value("cdi_gen_gpu_clock_event_active", **labels)
    }
    assert active == {"power_cap", "hw_thermal"}
    assert len(parsed.values("cdi_gen_gpu_clock_event_active")) == 9


def test_events_of_the_last_minutes() -> None:
    snapshot = snapshots.faults()
    made = families(snapshot, Options(), RecentEvents().update(snapshot.reading))
    counts = next(family for family in made if family.name == "DCGM_EXP_XID_ERRORS_COUNT")
    assert sorted(counts.samples.values()) == [1, 4]
    assert all('window_size_in_ms="300000"' in labels for labels in counts.samples)


def test_window_without_events_has_a_sample_of_0() -> None:
    snapshot = snapshots.idle()
    made = families(snapshot, Options(), RecentEvents().update(snapshot.reading))
    counts = next(family for family in made if family.name == "DCGM_EXP_XID_ERRORS_COUNT")
    assert list(counts.samples.values()) == [0]


def test_sample_for_each_container() -> None:
    parsed = presented(snapshots.shared(), Options(per_container=True))
    assert parsed.value("DCGM_FI_DEV_FB_USED", container="job-1") == 3 * 1024
    assert parsed.value("DCGM_FI_DEV_GPU_UTIL", container="job-1") == 75
    assert parsed.values("DCGM_FI_DEV_FB_USED", pod="train-2") == []
    assert parsed.value("DCGM_FI_DEV_GPU_TEMP", pod="train-2") == 64
    assert len(parsed.values("DCGM_FI_DEV_GPU_TEMP")) == 2


def test_gpu_of_no_container_has_a_sample_of_its_own() -> None:
    parsed = presented(snapshots.eight(), Options(per_container=True))
    assert parsed.value("DCGM_FI_DEV_GPU_TEMP", gpu="7") == 31


def test_sample_for_each_container_of_a_gpu_instance() -> None:
    """One container has both MIG devices of the instance."""
    parsed = presented(snapshots.mig(), Options(per_container=True))
    assert parsed.value("DCGM_FI_DEV_FB_USED", GPU_I_ID="3", container="job-3") == 3 * 1024


def test_replica_of_a_shared_gpu() -> None:
    device = snapshots.gpu(0, snapshots.BUSY)
    holders = [
        Holder(
            container=snapshots.pod_container(number),
            devices=(),
            allocations=(Allocation(resource="nvidia.com/gpu", ids=(f"{device.uuid}::{number}",)),),
        )
        for number in range(2)
    ]
    snapshot = Snapshot(
        reading=snapshots.reading(device),
        holders=tuple(holders),
        uses=tuple(ContainerUse(holder=holder, device="0", memory=0) for holder in holders),
    )
    parsed = presented(snapshot, Options(per_container=True))
    assert parsed.value("DCGM_FI_DEV_FB_USED", vgpu="1", pod="train-1") == 0


def test_containers_that_started_first_have_samples() -> None:
    snapshot = snapshots.many(1, 0, 5)
    parsed = presented(snapshot, Options(max_containers=2))
    pods = {labels["pod"] for labels in parsed.labels("cdi_gen_container_info")}
    assert pods == {"train-0", "train-1"}
    assert len(parsed.values("cdi_gen_container_gpu_held")) == 2
    assert parsed.value("cdi_gen_metrics_omitted_containers") == 3
    assert parsed.value("cdi_gen_metrics_shown_containers") == 2


def test_users_do_not_displace_containers_of_root() -> None:
    """A user who starts many containers with all GPUs displaces only those of users."""
    snapshot = snapshots.many(1, 0, 5)
    eve = {
        holder: replace(
            holder,
            container=replace(
                holder.container, origin=replace(holder.container.origin, user="eve")
            ),
        )
        for holder in snapshot.holders[:3]
    }
    snapshot = replace(
        snapshot,
        holders=tuple(eve.get(holder, holder) for holder in snapshot.holders),
        uses=tuple(replace(use, holder=eve.get(use.holder, use.holder)) for use in snapshot.uses),
    )
    parsed = presented(snapshot, Options(max_containers=3))
    pods = {labels["pod"] for labels in parsed.labels("cdi_gen_container_info")}
    assert pods == {"train-0", "train-3", "train-4"}


def test_10000_containers_are_bounded() -> None:
    made = families(snapshots.many(8, 7, 180))
    (omitted,) = (f for f in made if f.name == "cdi_gen_metrics_omitted_containers")
    assert omitted.samples == {"": 10_080 - 1000}
    assert sum(len(f.samples) for f in made if f.name.startswith("cdi_gen_container")) == 4000


def test_container_with_many_devices_is_bounded() -> None:
    snapshot = snapshots.many(16, 7, 1)
    holder = snapshot.holders[0]
    uses = tuple(replace(use, holder=holder) for use in snapshot.uses)
    made = families(replace(snapshot, uses=uses, holders=(holder,)), Options(max_containers=10))
    samples = {family.name: family.samples for family in made}
    assert len(samples["cdi_gen_container_gpu_held"]) == 80
    assert samples["cdi_gen_metrics_omitted_uses"] == {"": 32}
