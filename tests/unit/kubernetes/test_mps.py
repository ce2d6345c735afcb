# SPDX-License-Identifier: Apache-2.0
"""Which MPS daemons a node needs, what limits they have, and what their clients get."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.inventory import WSL, Inventory, Library
from cdi_gen.inventory.properties import Properties
from cdi_gen.kubernetes.mps.keeper import limits
from cdi_gen.kubernetes.mps.program import driver_libraries
from cdi_gen.kubernetes.resources import mps
from cdi_gen.kubernetes.resources.advertise import Advertised, advertise
from cdi_gen.kubernetes.resources.allocation import (
    Allocation,
    AllocationError,
    Mount,
    Node,
    allocate,
)
from cdi_gen.kubernetes.settings import DEFAULTS, Settings, SharedResource, Sharing
from cdi_gen.paths import HostPath
from tests.unit.kubernetes.nodes import inventory, properties

HGX = inventory("hgx-550-8gpu")
UUIDS = [gpu.uuid or "" for gpu in HGX.gpus]
GPU = "nvidia.com/gpu"


def shared(*resources: SharedResource, several: bool = False, **options: object) -> Settings:
    sharing = Sharing(
        strategy="mps",
        resources=resources,
        fail_requests_greater_than_one=not several,
        **options,  # type: ignore[arg-type]
    )
    return replace(DEFAULTS, mps_root="/run/mps", sharing=sharing)


def gpus(replicas: int = 4, **options: object) -> SharedResource:
    return SharedResource(name=GPU, replicas=replicas, **options)  # type: ignore[arg-type]


def advertised(
    settings: Settings, host: Inventory = HGX, known: Properties | None = None, **of_gpu: object
) -> Advertised:
    return advertise(host, known or properties(host, **of_gpu), settings)


def daemons(settings: Settings) -> tuple[mps.MpsDaemon, ...]:
    return mps.daemons(advertised(settings).resources)


def allocation(settings: Settings, *ids: str) -> Allocation:
    resources = {resource.name: resource for resource in advertised(settings).resources}
    return allocate(ids, resources[GPU], settings, Node())


class TestDaemons:
    def test_each_shared_gpu_has_one(self) -> None:
        assert [daemon.name for daemon in daemons(shared(gpus(devices=3)))] == UUIDS[:3]

    def test_gpus_with_different_replicas_have_different_limits(self) -> None:
        first, second = daemons(shared(gpus(4, devices=("0",)), gpus(3, devices=("5",))))
        assert limits(first) == [
            "set_default_active_thread_percentage 25",
            "set_default_device_pinned_mem_limit 0 20480M",
        ]
        assert limits(second) == [
            "set_default_active_thread_percentage 33",
            "set_default_device_pinned_mem_limit 0 27306M",
        ]

    def test_all_gpus_have_one_daemon_if_a_container_may_get_several(self) -> None:
        settings = shared(gpus(4, devices=("0",)), gpus(10, devices=("5",)), several=True)
        (daemon,) = daemons(settings)
        assert daemon.uuids == (UUIDS[0], UUIDS[5])
        assert limits(daemon) == [
            "set_default_active_thread_percentage 10",
            "set_default_device_pinned_mem_limit 0 20480M",
            "set_default_device_pinned_mem_limit 1 8192M",
        ]

    def test_other_gpus_have_another_name(self) -> None:
        names = {daemons(shared(gpus(devices=count), several=True))[0].name for count in (1, 2)}
        assert len(names) == 2

    def test_a_gpu_whose_memory_is_unknown_has_no_memory_limit(self) -> None:
        settings = shared(gpus(devices=1))
        (daemon,) = mps.daemons(advertised(settings, known=Properties()).resources)
        assert limits(daemon) == ["set_default_active_thread_percentage 25"]

    def test_time_slicing_needs_none(self) -> None:
        settings = shared(gpus())
        sharing = replace(settings.sharing, strategy="time-slicing")
        assert not daemons(replace(settings, sharing=sharing))


class TestClients:
    def test_a_container_gets_the_clients_directory_of_its_daemon_and_its_limits(self) -> None:
        answer = allocation(shared(gpus()), f"{UUIDS[2]}::1")
        assert answer.mounts == (
            Mount(f"/run/mps/{UUIDS[2]}/clients", f"/mps/{GPU}/pipe", read_only=True),
        )
        assert answer.envs == {
            "CUDA_MPS_PIPE_DIRECTORY": "/mps/nvidia.com/gpu/pipe",
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=20480M",
            "NVIDIA_GPU_SHARING_STRATEGY": "mps",
            "NVIDIA_GPU_REPLICAS": "4",
        }

    def test_a_container_with_two_gpus(self) -> None:
        settings = shared(gpus(2), several=True)
        (daemon,) = daemons(settings)
        answer = allocation(settings, f"{UUIDS[3]}::1", f"{UUIDS[1]}::0")
        assert [mount.host_path for mount in answer.mounts] == [f"/run/mps/{daemon.name}/clients"]
        limit = answer.envs["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"]
        assert limit == "0=40960M,1=40960M"

    def test_more_than_one_replica_is_refused_by_default(self) -> None:
        with pytest.raises(AllocationError, match="may request one") as error:
            allocation(shared(gpus()), f"{UUIDS[0]}::0", f"{UUIDS[1]}::0")
        assert error.value.code == "CDG-N202"

    def test_a_whole_gpu_has_nothing_of_mps(self) -> None:
        answer = allocation(shared(gpus(devices=1)), UUIDS[1])
        assert not answer.envs
        assert not answer.mounts

    def test_a_container_cannot_have_shared_and_whole_gpus(self) -> None:
        with pytest.raises(AllocationError, match="shared and whole devices"):
            allocation(shared(gpus(devices=1), several=True), f"{UUIDS[0]}::0", UUIDS[1])

    def test_renamed_devices_have_the_directory_of_their_name(self) -> None:
        settings = shared(gpus(), rename_by_default=True)
        (resource,) = advertised(settings).resources
        answer = allocate([f"{UUIDS[0]}::0"], resource, settings, Node())
        assert answer.envs["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/nvidia.com/gpu.shared/pipe"


@pytest.mark.parametrize(
    ("capability", "cuda", "most"),
    [
        ("6.1", "12.8", 16),
        ("7.0", "12.8", 48),
        ("9.0", "13.0", 48),
        ("9.0", "13.1", 60),
        ("10.0", "14.0", 60),
        (None, None, 48),
    ],
)
def test_clients_of_a_gpu(capability: str | None, cuda: str | None, most: int) -> None:
    assert mps.max_clients(capability, cuda) == most


def test_gpus_with_more_replicas_than_clients_stay_whole() -> None:
    found = advertised(shared(gpus(49)), compute_capability="9.0")
    (resource,) = found.resources
    assert [device.id for device in resource.devices] == UUIDS
    assert {finding.code for finding in found.findings} == {"CDG-N131"}
    assert "49 replicas, and 48 clients are possible" in found.findings[0].message


def test_wsl_has_no_mps() -> None:
    found = advertised(shared(gpus()), replace(HGX, platform=WSL))
    assert [device.id for device in found.resources[0].devices] == ["all"]
    assert [finding.code for finding in found.findings] == ["CDG-N131"]


def test_a_daemon_gets_the_libraries_of_a_driver_that_is_elsewhere() -> None:
    path = HostPath("/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libcuda.so.550.1")
    library = Library(path=path, bits=64, soname="libcuda.so.1")
    host = replace(HGX, libraries=(library,))
    assert driver_libraries(host) == {"libcuda.so.1": path, "libcuda.so.550.1": path}
