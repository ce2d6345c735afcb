# SPDX-License-Identifier: Apache-2.0
"""Devices of public reports: their health, their names, and what a container gets."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from cdi_gen.host.devices.nvml_health import HealthMonitor
from cdi_gen.inventory import TEGRA
from cdi_gen.inventory.properties import Properties
from cdi_gen.kubernetes.labels.resource_labels import gpu_labels
from cdi_gen.kubernetes.plugin import messages
from cdi_gen.kubernetes.plugin.specs import spec_files
from cdi_gen.kubernetes.resources.advertise import advertise
from cdi_gen.kubernetes.resources.allocation import Node, allocate
from cdi_gen.kubernetes.resources.links import Scores
from cdi_gen.kubernetes.resources.preference import preferred
from cdi_gen.kubernetes.settings import DEFAULTS, ResourceRule, SharedResource, Sharing
from tests.unit.kubernetes.nodes import inventory, properties

HGX = inventory("hgx-550-8gpu")
MIG = inventory("flat-550-mig-mixed")
GPU = "nvidia.com/gpu"

NOT_SUPPORTED, UNKNOWN, GPU_IS_LOST = 3, 999, 15


class Nvml:
    """pynvml of one GPU that answers all calls but one."""

    def __init__(self, failing: str, code: int) -> None:
        self._failing = failing
        self._code = code

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("nvmlDeviceGet", "nvmlEventSet", "nvmlDeviceRegister")):
            return getattr(pynvml, name)

        def call(*_: object) -> Any:
            if name == self._failing:
                raise pynvml.NVMLError(self._code)
            return ANSWERS.get(name, 1)

        return call


RECOVERY = SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=0))
ANSWERS = {
    "nvmlDeviceGetSupportedEventTypes": pynvml.nvmlEventTypeXidCriticalError,
    "nvmlDeviceGetRemappedRows": (0, 0, 0, 0),
    "nvmlDeviceGetFieldValues": [RECOVERY],
}


@pytest.mark.parametrize(
    ("function", "code", "fault"),
    [
        ("nvmlDeviceGetMemoryInfo", NOT_SUPPORTED, ""),
        ("nvmlDeviceGetRemappedRows", NOT_SUPPORTED, ""),
        ("nvmlDeviceGetFieldValues", NOT_SUPPORTED, ""),
        ("nvmlDeviceGetSupportedEventTypes", NOT_SUPPORTED, ""),
        ("nvmlDeviceGetMemoryInfo", GPU_IS_LOST, "NVML reports: GPU is lost"),
        ("nvmlDeviceGetMemoryInfo", UNKNOWN, "NVML reports: Unknown Error"),
        ("nvmlDeviceGetHandleByPciBusId", GPU_IS_LOST, "NVML reports: GPU is lost"),
    ],
)
def test_what_a_gpu_does_not_support_is_no_fault(function: str, code: int, fault: str) -> None:
    """NVIDIA/gpu-operator#1794 (2025): DGX Spark, whose GPU has no memory of its own."""
    monitor = HealthMonitor(Nvml(function, code), {"GPU-0": "000f:01:00.0"})
    (check,) = monitor.checks()
    assert check.fault == fault
    assert not check.recovery


def test_a_gpu_without_memory_of_its_own_is_shared_without_a_limit() -> None:
    """NVIDIA/gpu-operator#1794 (2025): "I would like to … consume the GPU via time slicing"."""
    host = inventory("flat-550-1gpu")
    known = properties(host)
    known = replace(known, gpus=(replace(known.gpus[0], memory_mib=None),))
    sharing = Sharing(
        strategy="mps",
        fail_requests_greater_than_one=True,
        resources=(SharedResource(name=GPU, replicas=4),),
    )
    settings = replace(DEFAULTS, sharing=sharing)
    (resource,) = advertise(host, known, settings).resources
    envs = allocate([resource.devices[0].id], resource, settings, Node()).envs
    assert envs["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"
    assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT" not in envs
    assert f"{GPU}.memory" not in gpu_labels(host.gpus, known, settings)


def test_mps_with_one_replica_limits_nothing() -> None:
    """NVIDIA/k8s-device-plugin#1548 (2025): the processes of one container share a GPU by MPS."""
    shared = SharedResource(name=GPU, replicas=1)
    sharing = Sharing(strategy="mps", fail_requests_greater_than_one=True, resources=(shared,))
    settings = replace(DEFAULTS, sharing=sharing)
    (resource,) = advertise(HGX, properties(HGX), settings).resources
    assert (resource.sharing, len(resource.devices)) == ("mps", 8)
    envs = allocate([resource.devices[0].id], resource, settings, Node()).envs
    assert envs["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "100"
    assert envs["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=81920M"
    assert gpu_labels(HGX.gpus, properties(HGX), settings)[f"{GPU}.sharing-strategy"] == "mps"


def test_a_gpu_with_one_replica_is_a_whole_one_under_its_name() -> None:
    """NVIDIA/k8s-device-plugin#1786 (2026): other numbers of replicas for the GPUs of a node."""
    whole = SharedResource(name=GPU, rename="nvidia.com/gpu.whole", devices=("0", "1"), replicas=1)
    sharing = Sharing(
        strategy="time-slicing",
        rename_by_default=True,
        resources=(
            whole,
            SharedResource(name=GPU, devices=("2",), replicas=1),
            SharedResource(name=GPU, devices=("3",), replicas=4),
        ),
    )
    settings = replace(DEFAULTS, sharing=sharing)
    resources = {item.name: item for item in advertise(HGX, properties(HGX), settings).resources}
    described = {name: (item.sharing, len(item.devices)) for name, item in resources.items()}
    assert described == {
        "nvidia.com/gpu.whole": ("none", 2),
        "nvidia.com/gpu": ("none", 5),
        "nvidia.com/gpu.shared": ("time-slicing", 4),
    }
    device = resources["nvidia.com/gpu.whole"].devices[0]
    assert device.id == device.uuid
    allocation = allocate([device.id], resources["nvidia.com/gpu.whole"], settings, Node())
    assert allocation.envs == {}


def test_mig_devices_of_numa_node_0_have_a_numa_node() -> None:
    """NVIDIA/k8s-device-plugin#1643 (2026): 0 is a node, and not the lack of one."""
    known = properties(MIG)
    known = replace(known, gpus=tuple(replace(gpu, numa_node=0) for gpu in known.gpus))
    settings = replace(DEFAULTS, mig_strategy="mixed")
    for resource in advertise(MIG, known, settings).resources:
        for device in messages.device_list(resource.devices, ()).devices:
            assert device.HasField("topology")
            assert [node.ID for node in device.topology.nodes] == [0]


def test_a_gpu_without_links_costs_the_others_nothing() -> None:
    """NVIDIA/k8s-device-plugin#2038 (2026): one GPU off the bus, and no pod was admitted."""
    known = properties(HGX)
    links = tuple(link for link in known.links if 3 not in {link.first, link.second})
    (resource,) = advertise(HGX, known, DEFAULTS).resources
    uuids = [device.uuid for device in resource.devices if device.gpu_index != 3]
    chosen = preferred(uuids, [], 2, resource, Scores(links))
    assert {resource.by_id[uuid].gpu_index for uuid in chosen} == {0, 1}
    assert len(preferred(uuids, [], 7, resource, Scores(links))) == 7
    assert preferred(uuids[:1], [], 1, resource, Scores()) == (uuids[0],)


def test_all_replicas_of_a_gpu_and_its_mig_devices_are_unhealthy() -> None:
    """NVIDIA/k8s-device-plugin#1929 (2026): one of them was."""
    shared = SharedResource(name=GPU, replicas=4)
    settings = replace(DEFAULTS, sharing=Sharing(strategy="time-slicing", resources=(shared,)))
    (resource,) = advertise(HGX, properties(HGX), settings).resources
    broken = resource.devices[0].uuid
    health = {
        device.ID: device.health
        for device in messages.device_list(resource.devices, {broken}).devices
    }
    assert [id_ for id_ in health if health[id_] == "Unhealthy"] == [
        f"{broken}::{number}" for number in range(4)
    ]


@pytest.mark.parametrize(
    "profile",
    ["1g.24gb+gfx", "1g.24gb+me.all", "1g.24gb-me", "2g.48gb+me", "4g.96gb+gfx", "1c.2g.48gb"],
)
def test_each_profile_is_a_resource_of_its_own(profile: str) -> None:
    """GoogleCloudPlatform/container-engine-accelerators#564 (2026), Project-HAMi/HAMi#2131 (2026).

    Profiles of RTX PRO 6000 that were not in a table; here there is no table.
    """
    changed = replace(MIG.mig_devices[0], profile=profile)
    host = replace(MIG, mig_devices=(changed, *MIG.mig_devices[1:]))
    settings = replace(DEFAULTS, mig_strategy="mixed")
    by_name = {item.name: item for item in advertise(host, properties(host), settings).resources}
    name = f"nvidia.com/mig-{profile.replace('+', '.')}"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name.partition("/")[2])
    assert [device.uuid for device in by_name[name].devices] == [changed.uuid]


@pytest.mark.parametrize(
    ("pattern", "model", "matches"),
    [
        ("Tesla V100", "Tesla V100-SXM2-16GB", True),
        ("V100*16GB", "Tesla V100-SXM2-16GB", True),
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("*", "NVIDIA H200", True),
        ("Tesla T4", "Tesla V100-SXM2-16GB", False),
        ("H[12]00", "NVIDIA H200", False),
        ("*a" * 40 + "b", "NVIDIA " + "a" * 60, False),
    ],
)
def test_a_pattern_is_a_part_of_the_model(pattern: str, model: str, matches: bool) -> None:
    """Project-HAMi/HAMi#992 (2025), NVIDIA/k8s-device-plugin#1121 (2025): a resource a model."""
    host = inventory("flat-550-1gpu")
    known = properties(host)
    known = replace(known, gpus=(replace(known.gpus[0], product=model),))
    rule = ResourceRule(pattern=pattern, name="nvidia.com/one")
    settings = replace(DEFAULTS, gpu_rules=(rule, *DEFAULTS.gpu_rules))
    (resource,) = advertise(host, known, settings).resources
    assert resource.name == ("nvidia.com/one" if matches else GPU)


def test_a_pattern_of_mig_devices_is_the_whole_profile() -> None:
    """GoogleCloudPlatform/container-engine-accelerators#564 (2026): +me is a profile of its own."""
    profiles = ("1g.10gb", "1g.10gb+me", "2g.20gb+me")
    devices = [
        replace(device, profile=name)
        for device, name in zip(MIG.mig_devices, profiles, strict=False)
    ]
    host = replace(MIG, mig_devices=tuple(devices))
    rules = (
        ResourceRule(pattern="1g.10gb", name="nvidia.com/small"),
        ResourceRule(pattern="*+me", name="nvidia.com/media"),
    )
    settings = replace(DEFAULTS, mig_strategy="mixed", mig_rules=rules)
    sizes = {
        item.name: len(item.devices)
        for item in advertise(host, properties(host), settings).resources
        if item.name != GPU
    }
    assert sizes == {"nvidia.com/small": 1, "nvidia.com/media": 2}


def test_jetson_without_nvml_has_a_gpu() -> None:
    """NVIDIA/k8s-device-plugin#1963 (2026): Thor, found by the host and not by NVML."""
    host = replace(inventory("flat-550-1gpu"), platform=TEGRA, gpus=(), mig_devices=())
    settings = replace(DEFAULTS, list_strategies=("envvar",), id_strategy="index")
    (resource,) = advertise(host, Properties(), settings).resources
    assert (resource.name, [device.id for device in resource.devices]) == (GPU, ["tegra"])
    envs = allocate(["tegra"], resource, settings, Node()).envs
    assert envs == {"NVIDIA_VISIBLE_DEVICES": "0"}
    assert spec_files(host, settings) == (), "it asks for no spec, which Jetson does not have yet"


def test_the_specs_of_the_plugin_have_all_gpus_as_one_device() -> None:
    """NVIDIA/k8s-device-plugin#1203 (2025): exporters ask for NVIDIA_VISIBLE_DEVICES=all."""
    (file,) = spec_files(HGX, DEFAULTS)
    names = {device.name for device in file.spec.devices}
    assert {"all", "0", HGX.gpus[0].uuid} <= names
