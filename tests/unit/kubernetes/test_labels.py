# SPDX-License-Identifier: Apache-2.0
"""The labels of a node: names and values are those of gpu-feature-discovery 0.19 and 0.20."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.inventory.properties import GpuProperties, Properties
from cdi_gen.kubernetes.labels import labels_findings
from cdi_gen.kubernetes.labels.settings import LabelSettings
from cdi_gen.kubernetes.probe import Facts
from cdi_gen.kubernetes.settings import DEFAULTS, Settings
from tests.unit.kubernetes.labelled import (
    A100,
    H100,
    H200,
    MIXED,
    RTX_4090,
    T4,
    facts,
    made,
    mig_host,
    mig_properties,
    shared,
)
from tests.unit.kubernetes.nodes import inventory


def test_every_label_of_a_node_without_mig_and_sharing() -> None:
    of = facts(inventory("hgx-550-8gpu"), H100, vgpu=False)
    assert made(of) == {
        "cuda.driver-version.full": "550.163.01",
        "cuda.driver-version.major": "550",
        "cuda.driver-version.minor": "163",
        "cuda.driver-version.revision": "01",
        "cuda.driver.major": "550",
        "cuda.driver.minor": "163",
        "cuda.driver.rev": "01",
        "cuda.runtime-version.full": "12.4",
        "cuda.runtime-version.major": "12",
        "cuda.runtime-version.minor": "4",
        "cuda.runtime.major": "12",
        "cuda.runtime.minor": "4",
        "gfd.timestamp": "1692843500",
        "gpu.compute.major": "9",
        "gpu.compute.minor": "0",
        "gpu.count": "8",
        "gpu.family": "hopper",
        "gpu.machine": "ACME-Box",
        "gpu.memory": "81559",
        "gpu.mode": "compute",
        "gpu.product": "NVIDIA-H100-80GB-HBM3",
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "mig.capable": "true",
        "mps.capable": "false",
        "vgpu.present": "false",
    }


@pytest.mark.parametrize(
    ("host", "of_gpu", "count", "product", "family_name", "memory", "mode", "driver"),
    [
        ("debian-bookworm-tesla-470-2gpu", T4, "2", "Tesla-T4", "turing", "15360", "compute", "470 256 02"),
        ("debian-trixie-550-8gpu", H100, "8", "NVIDIA-H100-80GB-HBM3", "hopper", "81559", "compute", "550 163 01"),
        ("flat-550-1gpu", H100, "1", "NVIDIA-H100-80GB-HBM3", "hopper", "81559", "compute", "550 163 01"),
        ("flat-550-mig-mixed", A100, "3", "NVIDIA-A100-SXM4-40GB", "ampere", "40960", "compute", "550 163 01"),
        ("gpu-operator-550-2gpu", H100, "2", "NVIDIA-H100-80GB-HBM3", "hopper", "81559", "compute", "550 163 01"),
        ("h200-580-1gpu", H200, "1", "NVIDIA-H200", "hopper", "143771", "compute", "580 159 04"),
        ("h200-580-2gpu", H200, "2", "NVIDIA-H200", "hopper", "143771", "compute", "580 159 04"),
        ("h200-580-4gpu", H200, "4", "NVIDIA-H200", "hopper", "143771", "compute", "580 159 04"),
        ("nixos-550-1gpu", RTX_4090, "1", "NVIDIA-GeForce-RTX-4090", "ada-lovelace", "24564", "graphics", "550 163 01"),
        ("server-550-4gpu-headless", H100, "4", "NVIDIA-H100-80GB-HBM3", "hopper", "81559", "compute", "550 163 01"),
        ("usr-local-550-1gpu", H200, "1", "NVIDIA-H200", "hopper", "143771", "compute", "550 163 01"),
    ],
)  # fmt: skip
def test_each_golden_host(
    host: str, of_gpu: dict[str, Any], count: str, product: str, family_name: str, memory: str, mode: str, driver: str
) -> None:  # fmt: skip
    values = made(facts(inventory(host), of_gpu))
    assert values["gpu.count"] == count
    assert values["gpu.product"] == product
    assert values["gpu.family"] == family_name
    assert values["gpu.memory"] == memory
    assert values["gpu.mode"] == mode
    version = [values[f"cuda.driver-version.{part}"] for part in ("major", "minor", "revision")]
    assert " ".join(version) == driver


class TestMissingFacts:
    def test_a_host_that_cannot_be_examined_has_a_timestamp_only(self) -> None:
        assert made(None) == {"gfd.timestamp": "1692843500"}

    def test_a_host_without_gpus_has_no_labels_of_devices(self) -> None:
        host = replace(inventory("flat-550-1gpu"), gpus=())
        assert made(facts(host, vgpu=False), no_timestamp=True) == {"vgpu.present": "false"}

    def test_values_that_nvml_does_not_report_cost_only_their_labels(self) -> None:
        of = facts(inventory("hgx-550-8gpu"), None, machine=None, cuda_version=None)
        values = made(of)
        assert not [name for name in values if name.startswith(("cuda.runtime", "gpu.compute"))]
        assert not values.keys() & {"gpu.memory", "gpu.family", "gpu.clique", "vgpu.present"}
        assert values["gpu.machine"] == "unknown"
        assert values["gpu.mode"] == "unknown"
        assert values["gpu.count"] == "8"

    def test_the_driver_names_the_model_where_nvml_does_not(self) -> None:
        host = inventory("flat-550-1gpu")
        of = Facts(inventory=host, properties=Properties())
        assert made(of)["gpu.product"] == "NVIDIA-H100-80GB-HBM3"

    def test_a_driver_version_of_two_parts_has_an_empty_revision(self) -> None:
        host = inventory("flat-550-1gpu")
        assert host.driver is not None
        host = replace(host, driver=replace(host.driver, version="550.54"))
        values = made(facts(host, H100))
        assert values["cuda.driver.rev"] == values["cuda.driver-version.revision"] == ""
        assert values["cuda.driver-version.full"] == "550.54"


class TestMig:
    def test_none_describes_whole_gpus_only(self) -> None:
        values = made(facts(MIXED, A100, mig_devices=mig_properties(MIXED)))
        assert values["gpu.count"] == "3"
        assert values["gpu.replicas"] == "1"
        assert not [name for name in values if name.startswith(("mig-", "mig.strategy"))]

    def test_gpus_that_all_have_mig_enabled_have_no_replicas(self) -> None:
        plugin = shared("gpu")
        values = made(facts(mig_host(["1g.5gb"], ["1g.5gb"]), A100), plugin)
        assert values["gpu.replicas"] == "0"
        assert values["gpu.sharing-strategy"] == "none"
        assert values["gpu.product"] == "NVIDIA-A100-SXM4-40GB"

    def test_mixed_describes_each_profile(self) -> None:
        of = facts(MIXED, A100, mig_devices=mig_properties(MIXED))
        values = made(of, replace(DEFAULTS, mig_strategy="mixed"))
        assert {n: v for n, v in values.items() if n.startswith(("mig-1g.5gb.", "mig."))} == {
            "mig.capable": "true",
            "mig.strategy": "mixed",
            "mig-1g.5gb.count": "1",
            "mig-1g.5gb.engines.copy": "2",
            "mig-1g.5gb.engines.decoder": "3",
            "mig-1g.5gb.engines.encoder": "4",
            "mig-1g.5gb.engines.jpeg": "5",
            "mig-1g.5gb.engines.ofa": "6",
            "mig-1g.5gb.memory": "4864",
            "mig-1g.5gb.multiprocessors": "14",
            "mig-1g.5gb.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
            "mig-1g.5gb.replicas": "1",
            "mig-1g.5gb.sharing-strategy": "none",
            "mig-1g.5gb.slices.ci": "1",
            "mig-1g.5gb.slices.gi": "1",
        }
        assert values["mig-1c.3g.20gb.count"] == "3"
        assert values["mig-1c.3g.20gb.memory"] == "19968"
        assert values["gpu.count"] == "3"

    def test_an_attribute_of_a_profile_has_a_point_in_the_label(self) -> None:
        plugin = replace(DEFAULTS, mig_strategy="mixed")
        values = made(facts(mig_host(["1g.10gb+me"]), A100), plugin)
        assert values["mig-1g.10gb.me.product"] == "NVIDIA-A100-SXM4-40GB-MIG-1g.10gb.me"

    def test_single_describes_the_devices_as_gpus(self) -> None:
        host = mig_host(["1g.5gb"] * 7, ["1g.5gb"] * 7)
        of = facts(host, A100, mig_devices=mig_properties(host))
        values = made(of, replace(DEFAULTS, mig_strategy="single"))
        assert values["mig.strategy"] == "single"
        assert values["gpu.product"] == "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"
        assert (values["gpu.count"], values["gpu.replicas"]) == ("14", "1")
        assert (values["gpu.memory"], values["gpu.multiprocessors"]) == ("4864", "14")
        assert (values["gpu.slices.gi"], values["gpu.engines.ofa"]) == ("1", "6")
        assert values["gpu.family"] == "ampere"

    def test_single_describes_what_is_advertised_and_names_the_rest(self) -> None:
        of = facts(mig_host(["1g.5gb"] * 2, None, [], ["1g.5gb", "3g.20gb"]), A100)
        plugin = replace(DEFAULTS, mig_strategy="single")
        values = made(of, plugin)
        assert values["gpu.product"] == "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"
        assert (values["gpu.count"], values["gpu.replicas"]) == ("2", "1")
        findings = labels_findings(of, LabelSettings(plugin=plugin))
        assert [finding.code for finding in findings] == ["CDG-N302"] * 3
        assert [finding.message.partition(": ")[2] for finding in findings] == [
            "MIG is enabled on it and it has no MIG device",
            "MIG is not enabled on it, as it is on other GPUs",
            "it has MIG devices of 3g.20gb and the strategy is single; those of other GPUs are 1g.5gb",
        ]

    def test_single_without_usable_mig_devices_describes_the_gpus_that_are_not_divided(
        self,
    ) -> None:
        of = facts(mig_host(None, [], None), A100)
        values = made(of, replace(DEFAULTS, mig_strategy="single"))
        assert values["gpu.product"] == "NVIDIA-A100-SXM4-40GB"
        assert (values["gpu.count"], values["gpu.replicas"]) == ("2", "1")

    @pytest.mark.parametrize("profiles", [[], ["1g.5gb", "3g.20gb"]], ids=["empty", "profiles"])
    def test_single_is_invalid_if_nothing_is_advertised(self, profiles: list[str]) -> None:
        of, plugin = facts(mig_host(profiles), A100), replace(DEFAULTS, mig_strategy="single")
        values = made(of, plugin)
        assert values["gpu.product"] == "NVIDIA-A100-SXM4-40GB-MIG-INVALID"
        assert values["gpu.count"] == values["gpu.replicas"] == values["gpu.memory"] == "0"
        assert values["gpu.sharing-strategy"] == ""

    def test_single_without_mig_is_like_none(self) -> None:
        of, plugin = facts(mig_host(None, None), A100), replace(DEFAULTS, mig_strategy="single")
        values = made(of, plugin)
        assert values.pop("mig.strategy") == "single"
        assert values == made(of)
        assert not labels_findings(of, LabelSettings(plugin=plugin))


class TestSharing:
    HOST = facts(inventory("hgx-550-8gpu"), H100)

    def resource(self, plugin: Settings, of: Facts = HOST, name: str = "gpu") -> list[str]:
        values = made(of, plugin)
        keys = ("product", "count", "replicas", "sharing-strategy")
        return [values[f"{name}.{key}"] for key in keys] + [values["mps.capable"]]

    def test_time_slicing(self) -> None:
        expected = ["NVIDIA-H100-80GB-HBM3-SHARED", "8", "4", "time-slicing", "false"]
        assert self.resource(shared("gpu")) == expected

    def test_a_renamed_resource_keeps_the_product(self) -> None:
        expected = ["NVIDIA-H100-80GB-HBM3", "8", "4", "time-slicing", "false"]
        assert self.resource(shared("gpu", rename_by_default=True)) == expected

    def test_mps(self) -> None:
        expected = ["NVIDIA-H100-80GB-HBM3-SHARED", "8", "4", "mps", "true"]
        assert self.resource(shared("gpu", strategy="mps")) == expected

    def test_mig_devices_of_mixed_are_shared_by_their_own_resource(self) -> None:
        of = facts(MIXED, A100)
        plugin = replace(shared("gpu", "mig-1g.5gb", replicas=3), mig_strategy="mixed")
        assert self.resource(plugin, of, "mig-1g.5gb")[:4] == [
            "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED", "1", "3", "time-slicing",
        ]  # fmt: skip
        assert self.resource(plugin, of, "mig-1c.3g.20gb")[2:4] == ["1", "none"]
        assert self.resource(plugin, of)[2:4] == ["3", "time-slicing"]

    def test_mig_devices_of_single_are_shared_as_gpus(self) -> None:
        of = facts(mig_host(["1g.5gb"] * 7), A100)
        plugin = replace(shared("gpu"), mig_strategy="single")
        assert self.resource(plugin, of)[:4] == [
            "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED", "7", "4", "time-slicing",
        ]  # fmt: skip

    def test_mps_does_not_share_mig_devices(self) -> None:
        of = facts(mig_host(["1g.5gb"] * 7), A100)
        plugin = replace(shared("gpu", strategy="mps"), mig_strategy="single")
        assert self.resource(plugin, of) == [
            "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "7", "1", "none", "false",
        ]  # fmt: skip


class TestDifferentGpus:
    def test_the_model_of_most_gpus_is_described(self) -> None:
        host = inventory("hgx-550-8gpu")
        models = ["A", "B", "B"]
        gpus = tuple(replace(host.gpus[i], model=model) for i, model in enumerate(models))
        of = facts(replace(host, gpus=gpus), H100)
        values = made(of)
        assert (values["gpu.product"], values["gpu.count"]) == ("B", "2")
        (finding,) = labels_findings(of, LabelSettings())
        assert finding.message == "the labels describe B only, and the node also has A"

    def test_gpus_without_mig_are_described_rather_than_gpus_with_mig(self) -> None:
        host = mig_host(["1g.5gb"], ["1g.5gb"], None)
        gpus = (*host.gpus[:2], replace(host.gpus[2], model="B"))
        values = made(facts(replace(host, gpus=gpus), A100))
        assert (values["gpu.product"], values["gpu.replicas"]) == ("B", "1")

    def test_different_pci_classes_have_no_mode(self) -> None:
        host = inventory("gpu-operator-550-2gpu")
        gpus = tuple(GpuProperties(index=i, pci_class=0x0300 + 2 * i) for i in range(2))
        of = Facts(inventory=host, properties=Properties(gpus=gpus))
        assert made(of)["gpu.mode"] == "unknown"


class TestFabric:
    CLUSTER = "aabbccdd-0000-1111-2222-333344445555"

    def clique(self, *fabrics: tuple[str, int] | None) -> tuple[str | None, list[str]]:
        host = inventory("gpu-operator-550-2gpu")
        gpus = tuple(
            GpuProperties(
                index=index,
                product="NVIDIA GB200",
                fabric_cluster=fabric and fabric[0],
                fabric_clique=fabric and fabric[1],
            )
            for index, fabric in enumerate(fabrics)
        )
        of = Facts(inventory=host, properties=Properties(gpus=gpus))
        codes = [finding.code for finding in labels_findings(of, LabelSettings())]
        return made(of).get("gpu.clique"), codes

    def test_a_node_in_one_clique(self) -> None:
        pair = (self.CLUSTER, 32766)
        assert self.clique(pair, pair) == (f"{self.CLUSTER}.32766", [])

    def test_a_node_with_a_gpu_that_is_in_no_fabric(self) -> None:
        assert self.clique((self.CLUSTER, 0), None) == (f"{self.CLUSTER}.0", [])

    def test_a_node_in_two_cliques_has_no_label(self) -> None:
        assert self.clique((self.CLUSTER, 0), (self.CLUSTER, 1)) == (None, ["CDG-N303"])

    def test_a_node_in_no_fabric_has_no_label(self) -> None:
        assert self.clique(None, None) == (None, [])


def test_a_vgpu_names_the_driver_of_its_host() -> None:
    driver = {"vgpu_host_driver_version": "460.16", "vgpu_host_driver_branch": "r460_00"}
    values = made(facts(inventory("flat-550-1gpu"), T4, vgpu=True, **driver))
    assert values["vgpu.present"] == "true"
    assert values["vgpu.host-driver-version"] == "460.16"
    assert values["vgpu.host-driver-branch"] == "r460_00"
