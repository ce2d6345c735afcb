# SPDX-License-Identifier: Apache-2.0
"""Labels of public reports of 2025 and 2026: the reported host, and what its node must say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.host.devices.vgpu import HostDriver, host_driver
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.labels import labels_findings
from cdi_gen.kubernetes.labels.settings import LabelSettings
from cdi_gen.kubernetes.resources.advertise import advertise
from cdi_gen.kubernetes.settings import DEFAULTS
from tests.unit.kubernetes.labelled import A100, H100, facts, made, mig_host
from tests.unit.kubernetes.nodes import inventory

SINGLE = replace(DEFAULTS, mig_strategy="single")
MIXED = replace(DEFAULTS, mig_strategy="mixed")
MAX_Q = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"


def of_models(host: Inventory, *models: str) -> Inventory:
    gpus = zip(host.gpus, models, strict=True)
    return replace(
        host, gpus=tuple(replace(gpu, model=model, uuid=f"GPU-{gpu.index}") for gpu, model in gpus)
    )


def advertised(host: Inventory, settings: Any) -> dict[str, int]:
    resources = advertise(host, facts(host).properties, settings).resources
    return {resource.name: len(resource.devices) for resource in resources}


@pytest.mark.parametrize("settings", [SINGLE, MIXED], ids=["single", "mixed"])
def test_a_long_model_with_a_profile_is_a_value_and_reported(settings: Any) -> None:
    """NVIDIA/k8s-device-plugin#1876 (2026): 67 characters, which Node Feature Discovery drops."""
    of = facts(of_models(mig_host(["1g.24gb"] * 4), MAX_Q), A100)
    values = made(of, settings)
    resource = "gpu" if settings is SINGLE else "mig-1g.24gb"
    product = values[f"{resource}.product"]
    assert product == "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edi-MIG-1g.24gb"
    (finding,) = labels_findings(of, LabelSettings(plugin=settings))
    assert (finding.code, "1g.24gb" in finding.message) == ("CDG-N304", True)


def configuration(capability: bytes, place: int) -> bytes:
    space = bytearray(256)
    space[0x06], space[0x34] = 0x10, place
    space[place : place + len(capability)] = capability
    return bytes(space[:256])


@pytest.mark.parametrize("length", [0, 1, 2, 200])
def test_a_vendor_capability_of_a_wrong_length_is_no_vgpu(length: int) -> None:
    """NVIDIA/k8s-device-plugin#1891 (2026): an H100 whose capability at 224 has the length 0."""
    assert host_driver(configuration(bytes([0x09, 0, length]), 224)) is None


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(b"\x07\x00", id="no length"),
        pytest.param(
            b"\x07\x01\x02" + b"\x00\x16460.16\0\0\0\0r460_00\0\0\0", id="less than its head"
        ),
        pytest.param(b"\x07\xff\x01", id="beyond the capability"),
        pytest.param(b"\x00\x04ab", id="a driver without texts"),
        pytest.param(b"\x07", id="cut"),
    ],
)
def test_a_vgpu_with_damaged_records_is_a_vgpu_of_an_unknown_driver(records: bytes) -> None:
    """NVIDIA/k8s-device-plugin#1994 (2026): a record without length was read again and again."""
    content = b"VF" + records
    capability = bytes([0x09, 0, 3 + len(content)]) + content
    assert host_driver(configuration(capability, 0x68)) == HostDriver()


def test_the_model_stays_while_mig_devices_are_made_again() -> None:
    """NVIDIA/gpu-operator#2495 (2026): `gpu.product` is gone while the node is repartitioned."""
    host = of_models(mig_host([]), "NVIDIA H100 NVL")
    values = made(facts(host, H100), SINGLE)
    assert values["gpu.product"] == "NVIDIA-H100-NVL-MIG-INVALID"
    assert (values["gpu.family"], values["mig.capable"]) == ("hopper", "true")
    assert advertised(host, SINGLE) == {}


def test_one_divided_gpu_among_gpus_that_cannot_be_divided() -> None:
    """NVIDIA/gpu-operator#1607 (2025): single, and the new partition is not on the node."""
    models = (
        "NVIDIA A100-PCIE-40GB",
        "NVIDIA TITAN RTX",
        "NVIDIA TITAN RTX",
        "NVIDIA GeForce RTX 3090",
    )
    host = of_models(mig_host(["7g.40gb"], None, None, None), *models)
    assert advertised(host, SINGLE) == {"nvidia.com/gpu": 1}
    values = made(facts(host, A100), SINGLE)
    assert values["gpu.product"] == "NVIDIA-A100-PCIE-40GB-MIG-7g.40gb"
    assert values["gpu.count"] == "1"
    codes = [finding.code for finding in labels_findings(facts(host), LabelSettings(plugin=SINGLE))]
    assert codes.count("CDG-N302") == 3
    assert advertised(host, MIXED) == {"nvidia.com/gpu": 3, "nvidia.com/mig-7g.40gb": 1}


def test_mixed_counts_gpus_and_mig_devices_in_different_labels() -> None:
    """NVIDIA/k8s-device-plugin#1501 (2025): `gpu.count` is 8 before and after the division."""
    values = made(facts(mig_host(*[["1g.10gb"] * 7] * 8), H100), MIXED)
    assert (values["gpu.count"], values["gpu.replicas"]) == ("8", "0")
    assert (values["mig-1g.10gb.count"], values["mig-1g.10gb.replicas"]) == ("56", "1")


def test_a_node_with_two_layouts_and_whole_gpus_offers_all_of_them() -> None:
    """NVIDIA/gpu-operator#1602 (2025): may a pod still request `nvidia.com/gpu`?"""
    layouts = [["2g.20gb"] * 3 + ["1g.10gb"], ["4g.40gb", "3g.40gb"], *[None] * 6]
    host = mig_host(*layouts)
    host = of_models(host, *["NVIDIA H100 80GB HBM3"] * 8)
    expected = {"gpu": 6, "mig-1g.10gb": 1, "mig-2g.20gb": 3, "mig-3g.40gb": 1, "mig-4g.40gb": 1}
    assert advertised(host, MIXED) == {f"nvidia.com/{name}": n for name, n in expected.items()}
    values = made(facts(host, H100), MIXED)
    of_mig = {name: int(values[f"{name}.count"]) for name in expected if name != "gpu"}
    assert of_mig == {name: count for name, count in expected.items() if name != "gpu"}
    assert values["gpu.replicas"] == "1"


def test_mixed_on_a_node_without_mig_devices_has_the_labels_of_gpus() -> None:
    """NVIDIA/k8s-device-plugin#1682 (2026): a DGX B300 with mixed, and no label of a profile."""
    host = of_models(mig_host(*[None] * 8), *["NVIDIA B300 SXM6 AC"] * 8)
    values = made(facts(host, {**H100, "compute_capability": "10.3"}), MIXED)
    assert not [name for name in values if name.startswith("mig-")]
    assert (values["mig.strategy"], values["mig.capable"]) == ("mixed", "true")
    assert (values["gpu.family"], values["gpu.count"]) == ("blackwell", "8")


def test_a_gpu_without_memory_of_its_own_has_the_other_labels() -> None:
    """kubernetes-sigs/dra-driver-nvidia-gpu#1115 (2026): DGX Spark, memory is not supported."""
    host = of_models(inventory("flat-550-1gpu"), "NVIDIA GB10")
    values = made(facts(host, {"compute_capability": "12.1", "pci_class": 0x0302}))
    assert "gpu.memory" not in values
    assert (values["gpu.product"], values["gpu.family"]) == ("NVIDIA-GB10", "blackwell")
    assert advertised(host, DEFAULTS) == {"nvidia.com/gpu": 1}


@pytest.mark.parametrize("name", ["NVIDIA DGX Display", "DGX Display"])
def test_the_gpu_that_drives_the_display_of_a_station_is_not_for_pods(name: str) -> None:
    """NVIDIA/k8s-device-plugin#731: the labels changed between the A100 and the display GPU.

    NVIDIA's programs have left it out since; a pod with it had 4 GB.
    """
    a100 = "NVIDIA A100-SXM4-80GB"
    host = of_models(mig_host(*[None] * 5), a100, a100, a100, name, a100)
    values = made(facts(host, A100))
    assert (values["gpu.product"], values["gpu.count"]) == ("NVIDIA-A100-SXM4-80GB", "4")
    assert not labels_findings(facts(host, A100), LabelSettings())
    result = advertise(host, facts(host).properties, DEFAULTS)
    (gpus,) = result.resources
    assert [device.index for device in gpus.devices] == ["0", "1", "2", "4"]
    (finding,) = result.findings
    assert "drives the display" in finding.message
