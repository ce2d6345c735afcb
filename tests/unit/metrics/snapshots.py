# SPDX-License-Identifier: Apache-2.0
"""Snapshots made by hand: an idle GPU, GPUs with containers, MIG, a shared GPU, faults, names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdi_gen.containers.model import Container, HeldDevice, Holder, Origin, Pod, Process
from cdi_gen.metrics.snapshot import ContainerUse, HostUse, Snapshot
from cdi_gen.telemetry.model import (
    GpuReading,
    LinkReading,
    MigReading,
    ProcessReading,
    Quantities,
    Reading,
)

TIME = 1_800_000_000.25
MODEL = "NVIDIA H100 80GB HBM3"
GIB = 1 << 30
IDLE: Mapping[str, float] = {
    "sm_clock_hertz": 345e6,
    "memory_clock_hertz": 2619e6,
    "memory_temp_celsius": 38,
    "gpu_temp_celsius": 31,
    "board_power_watts": 71.254,
    "gpu_energy_joules_total": 123_456.789,
    "pcie_tx_bytes_per_second": 0,
    "pcie_rx_bytes_per_second": 0,
    "pcie_replay_total": 0,
    "gpu_util_ratio": 0,
    "memory_util_ratio": 0,
    "enc_util_ratio": 0,
    "dec_util_ratio": 0,
    "xid_error": 0,
    "fb_free_bytes": 80_995 * 1_048_576 + 524_288,
    "fb_used_bytes": 4 * 1_048_576,
    "fb_reserved_bytes": 560 * 1_048_576,
    "fb_capacity_bytes": 81_559 * 1_048_576 + 524_288,
    "nvlink_throughput_bytes_per_second": 0,
    "vgpu_license_status": 0,
    "row_remap_uncorrectable_total": 0,
    "row_remap_correctable_total": 0,
    "row_remap_failed": 0,
    "gr_engine_util_ratio": 0,
    "tensor_util_ratio": 0,
    "dram_util_ratio": 0,
}
"""Every default quantity of an idle GPU."""
BUSY: Mapping[str, float] = {
    **IDLE,
    "sm_clock_hertz": 1980e6,
    "gpu_temp_celsius": 64,
    "board_power_watts": 612.5,
    "pcie_tx_bytes_per_second": 1_500_000_000,
    "gpu_util_ratio": 0.57,
    "memory_util_ratio": 0.29,
    "fb_free_bytes": 40 * GIB,
    "fb_used_bytes": 39 * GIB,
    "nvlink_throughput_bytes_per_second": 300 * 1_024_000,
    "gr_engine_util_ratio": 0.553,
    "tensor_util_ratio": 0.31,
    "dram_util_ratio": 0.42,
}


def uuid(number: int) -> str:
    """Return the UUID of a GPU."""
    return f"GPU-{number:08x}-0000-4000-8000-000000000000"


def mig_uuid(gpu: int, number: int) -> str:
    """Return the UUID of a MIG device."""
    return f"MIG-{gpu:08x}-{number:04x}-5000-8000-000000000000"


def gpu(number: int = 0, quantities: Quantities = IDLE, **facts: Any) -> GpuReading:
    """Return the reading of a GPU without processes."""
    return GpuReading(
        index=str(number),
        uuid=uuid(number),
        pci_address=f"0000:{0x18 + number:02x}:00.0",
        model=MODEL,
        quantities=quantities,
        **{"minor": number, "processes": (), **facts},
    )


def mig_device(gpu_number: int, number: int, profile: str, **facts: Any) -> MigReading:
    """Return the reading of a MIG device; its GPU instance has the number 7 and up."""
    return MigReading(
        index=f"{gpu_number}:{number}",
        uuid=mig_uuid(gpu_number, number),
        profile=profile,
        **{
            "gpu_instance": 7 + number,
            "compute_instance": 0,
            "processes": (),
            "quantities": {
                "fb_free_bytes": 9 * GIB,
                "fb_used_bytes": 1 * GIB,
                "fb_reserved_bytes": 0,
                "fb_capacity_bytes": 10 * GIB,
                "gr_engine_util_ratio": 0.25,
                "tensor_util_ratio": 0.125,
                "dram_util_ratio": 0.5,
                "xid_error": 0,
            },
            **facts,
        },
    )


def reading(*gpus: GpuReading, **facts: Any) -> Reading:
    """Return the result of a pass."""
    versions = {"driver_version": "580.95.05", "cuda_version": "13.0"}
    return Reading(**{"time": TIME, "seconds": 0.012, "gpus": gpus, **versions, **facts})


def process(pid: int, user: int = 0) -> Process:
    """Return a process of a container."""
    return Process(
        pid=pid, start_time=10 * pid, parent=1, name="python", user=user, mount_namespace=pid
    )


def container(number: int, *, uid: int = 0, pids: tuple[int, ...] = (), **origin: Any) -> Container:
    """Return a container of Podman, or as ``origin`` says."""
    text = {
        "engine": "podman",
        "id": f"{number:064x}",
        "name": f"job-{number}",
        "image": "docker.io/pytorch/pytorch:2.9",
        **origin,
    }
    processes = tuple(process(pid, uid) for pid in pids or (1000 + number,))
    return Container(origin=Origin(**text), first=processes[0], processes=processes)


def pod_container(number: int, **facts: Any) -> Container:
    """Return a container of a pod."""
    pod = Pod(namespace="research", name=f"train-{number}", container="main", uid=f"uid-{number}")
    return container(number, engine="containerd", name="main", pod=pod, **facts)


def held(device: GpuReading | MigReading) -> HeldDevice:
    """Return the device as a container holds it."""
    if isinstance(device, MigReading):
        return HeldDevice(index=device.index, uuid=device.uuid, model=MODEL, profile=device.profile)
    return HeldDevice(index=device.index, uuid=device.uuid, model=device.model)


def idle() -> Snapshot:
    """Return a GPU that nobody uses, on a host without containers."""
    return Snapshot(reading=reading(gpu()))


def eight() -> Snapshot:
    """Return 8 GPUs: 0 to 2 in a busy container, 3 in a pod, 4 in an idle one, 5 on the host."""
    busy, on_host = container(1, pids=(101, 102)), 900
    gpus = []
    for number in range(8):
        pids = {0: (101,), 1: (102,), 2: (102,), 3: (103,), 5: (on_host,)}.get(number, ())
        processes = tuple(
            ProcessReading(pid=pid, memory=10 * GIB, utilization=0.5, memory_utilization=0.25)
            for pid in pids
        )
        links = tuple(
            LinkReading(number=link, quantities={"nvlink_throughput_bytes_per_second": 2_048_000})
            for link in range(2)
        )
        gpus.append(gpu(number, BUSY if pids else IDLE, processes=processes, links=links))
    in_pod, lazy = pod_container(2, pids=(103,)), container(3, engine="docker", name="lazy")
    return Snapshot(
        reading=reading(*gpus),
        holders=(
            Holder(container=busy, devices=tuple(held(device) for device in gpus[:3])),
            Holder(container=in_pod, devices=(held(gpus[3]),)),
            Holder(container=lazy, devices=(held(gpus[4]),)),
        ),
        uses=(
            *(
                ContainerUse(
                    holder=Holder(container=busy, devices=()),
                    device=str(number),
                    processes=1,
                    memory=10 * GIB,
                    utilization=0.5,
                    memory_utilization=0.25,
                )
                for number in range(3)
            ),
            ContainerUse(
                holder=Holder(container=in_pod, devices=()),
                device="3",
                processes=1,
                memory=10 * GIB,
                utilization=0.5,
                memory_utilization=0.25,
                encoder_utilization=0,
                decoder_utilization=0.125,
            ),
            ContainerUse(
                holder=Holder(container=lazy, devices=()),
                device="4",
                processes=0,
                memory=0,
                utilization=0,
                memory_utilization=0,
            ),
        ),
        host_uses=(HostUse(device="5", processes=1, memory=10 * GIB, utilization=0.5),),
        containers=5,
    )


def mig() -> Snapshot:
    """Return GPU 0 with MIG devices, of which 0:2 and 0:3 share a GPU instance, and GPU 1."""
    devices = (
        mig_device(0, 0, "1g.10gb", xids={43: 2}),
        mig_device(0, 1, "1g.10gb"),
        mig_device(0, 2, "1c.2g.20gb", gpu_instance=3),
        mig_device(0, 3, "1c.2g.20gb", gpu_instance=3, compute_instance=1),
    )
    without_rates = {key: value for key, value in IDLE.items() if not key.endswith("_util_ratio")}
    parent = gpu(0, without_rates, mig_enabled=True, mig=devices, xids={43: 2, 79: 1})
    first, second, both = pod_container(1), container(2), container(3)
    return Snapshot(
        reading=reading(parent, gpu(1)),
        holders=(
            Holder(container=first, devices=(held(devices[0]),)),
            Holder(container=second, devices=(held(devices[1]),)),
            Holder(container=both, devices=(held(devices[2]), held(devices[3]))),
        ),
        uses=(
            ContainerUse(
                holder=Holder(container=first, devices=()), device="0:0", processes=1, memory=GIB
            ),
            ContainerUse(
                holder=Holder(container=second, devices=()), device="0:1", processes=0, memory=0
            ),
            ContainerUse(
                holder=Holder(container=both, devices=()), device="0:2", processes=2, memory=GIB
            ),
            ContainerUse(
                holder=Holder(container=both, devices=()), device="0:3", processes=1, memory=2 * GIB
            ),
        ),
        containers=3,
    )


def shared() -> Snapshot:
    """Return a GPU that two containers hold and the host uses; the second one's use is unknown."""
    device = gpu(0, BUSY)
    first, second = container(1), pod_container(2)
    return Snapshot(
        reading=reading(device),
        holders=(
            Holder(container=first, devices=(held(device),)),
            Holder(container=second, devices=(held(device),)),
        ),
        uses=(
            ContainerUse(
                holder=Holder(container=first, devices=()),
                device="0",
                processes=2,
                memory=3 * GIB,
                utilization=0.75,
                memory_utilization=0.5,
            ),
            ContainerUse(holder=Holder(container=second, devices=()), device="0"),
        ),
        host_uses=(HostUse(device="0", processes=1),),
        containers=2,
    )


def faults() -> Snapshot:
    """Return a GPU that hangs, one that is lost, one with errors, and what could not be seen."""
    faulty = gpu(
        2,
        {**IDLE, "xid_error": 79, "row_remap_failed": 1, "clocks_event_reasons": 0x44},
        clock_events=frozenset({"power_cap", "hw_thermal"}),
        clock_event_counts={"power_cap": 7, "hw_thermal": 1},
        xids={13: 4, 79: 1},
    )
    return Snapshot(
        reading=reading(
            gpu(0, {}, fault="GPU 0 did not answer in 2 s", timeouts=3, processes=None),
            gpu(1, {}, fault="GPU is lost", processes=None),
            faulty,
        ),
        containers=2,
        unseen=("the processes of user 1000 cannot be read",),
    )


def no_driver() -> Snapshot:
    """Return a host whose driver does not answer."""
    return Snapshot(
        reading=Reading(time=TIME, seconds=0.001, error="libnvidia-ml.so.1 was not found"),
    )


HOSTILE_NAMES = (
    "nul\0byte",
    "line\nfeed",
    'quo"te',
    "back\\slash",
    "}end 1\n# HELP up",
    "surrogate\udcff",
    "bidi\u202egnp.exe",
    "escape\x1b[2J",
    "separator\u2028line",
    "\ufeffmark",
    "é" * 100,
    "x" * (1 << 20),
    "",
    "\\",
    "\\n",
    "carriage\rreturn",
)


def hostile() -> Snapshot:
    """Return containers whose names, images and pods are chosen to break the text."""
    device = gpu(0, BUSY)
    holders, uses = [], []
    for number, name in enumerate(HOSTILE_NAMES):
        pod = Pod(namespace=name, name=name, container=name) if number % 2 else None
        text: dict[str, Any] = {"name": name, "image": name, "engine": name, "pod": pod}
        holder = Holder(container=container(number, **text), devices=(held(device),))
        holders.append(holder)
        uses.append(ContainerUse(holder=holder, device="0", processes=1, memory=number))
    return Snapshot(
        reading=reading(device), holders=tuple(holders), uses=tuple(uses), containers=len(holders)
    )


def many(gpus: int, mig_devices: int, containers: int) -> Snapshot:
    """Return GPUs of which each MIG device (or each GPU, without MIG) is in several containers."""
    devices: list[GpuReading] = []
    holders: list[Holder] = []
    uses: list[ContainerUse] = []
    for number in range(gpus):
        instances = tuple(mig_device(number, index, "1g.10gb") for index in range(mig_devices))
        device = gpu(number, BUSY, mig_enabled=bool(mig_devices), mig=instances)
        devices.append(device)
        for part in instances or (device,):
            for _ in range(containers):
                holder = Holder(container=pod_container(len(holders)), devices=(held(part),))
                holders.append(holder)
                use = ContainerUse(
                    holder=holder,
                    device=part.index,
                    processes=1,
                    memory=GIB,
                    utilization=None if instances else 0.1,
                )
                uses.append(use)
    return Snapshot(
        reading=reading(*devices),
        holders=tuple(holders),
        uses=tuple(uses),
        containers=len(holders),
    )
