# SPDX-License-Identifier: Apache-2.0
"""The labels of a node: names and values are those of gpu-feature-discovery 0.19 and 0.20."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.errors import UsageError
from cdi_gen.inventory import Inventory
from cdi_gen.inventory.properties import GpuProperties, MigProperties, Properties
from cdi_gen.kubernetes.labels import labels, labels_findings
from cdi_gen.kubernetes.labels.settings import LabelSettings, label_settings, seconds
from cdi_gen.kubernetes.labels.values import family, joined, sanitised, valid
from cdi_gen.kubernetes.probe import Facts
from cdi_gen.kubernetes.settings import DEFAULTS, Settings, SharedResource, Sharing
from tests.unit.kubernetes.nodes import inventory

NOW = 1_692_843_500.7

H100 = {"memory_mib": 81559, "compute_capability": "9.0", "pci_class": 0x0302, "mig_capable": True}
A100 = {"memory_mib": 40960, "compute_capability": "8.0", "pci_class": 0x0302, "mig_capable": True}
H200 = {"memory_mib": 143771, "compute_capability": "9.0", "pci_class": 0x0302, "mig_capable": True}
T4 = {"memory_mib": 15360, "compute_capability": "7.5", "pci_class": 0x0302}
RTX_4090 = {"memory_mib": 24564, "compute_capability": "8.9", "pci_class": 0x0300}

MIXED = inventory("flat-550-mig-mixed")
"""GPU 0 without MIG; GPU 1 with three devices 1c.3g.20gb and one 1g.5gb; GPU 2 without devices."""


def facts(
    host: Inventory,
    of_gpu: dict[str, Any] | None = None,
    machine: str | None = "ACME Box",
    **of_host: Any,
) -> Facts:
    gpus = tuple(
        GpuProperties(index=gpu.index, product=gpu.model, **(of_gpu or {})) for gpu in host.gpus
    )
    values: dict[str, Any] = {"gpus": gpus, "cuda_version": "12.4", "machine": machine} | of_host
    return Facts(inventory=host, properties=Properties(**values))


def made(of: Facts | None, plugin: Settings = DEFAULTS, **options: Any) -> dict[str, str]:
    """The labels, without the prefix."""
    values = labels(of, LabelSettings(plugin=plugin, **options), NOW)
    assert all(name.startswith("nvidia.com/") for name in values)
    return {name.removeprefix("nvidia.com/"): value for name, value in values.items()}


def shared(
    *names: str, strategy: str = "time-slicing", replicas: int = 4, **options: Any
) -> Settings:
    resources = tuple(
        SharedResource(name=f"nvidia.com/{name}", replicas=replicas) for name in names
    )
    sharing = Sharing(strategy=strategy, resources=resources, **options)  # type: ignore[arg-type]
    return replace(DEFAULTS, sharing=sharing)


def mig_properties(host: Inventory) -> tuple[MigProperties, ...]:
    return tuple(
        MigProperties(
            uuid=mig.uuid or "",
            memory_mib=4864 if mig.profile == "1g.5gb" else 19968,
            multiprocessors=14 if mig.profile == "1g.5gb" else 42,
            gpu_instance_slices=1 if mig.profile == "1g.5gb" else 3,
            compute_instance_slices=1,
            copy_engines=2,
            decoders=3,
            encoders=4,
            jpeg_engines=5,
            ofa_engines=6,
        )
        for mig in host.mig_devices
    )


def mig_host(*profiles: list[str] | None) -> Inventory:
    """A host with a GPU for each list of profiles; None: MIG is not enabled on it."""
    example = MIXED.mig_devices[0]
    gpus = tuple(
        replace(MIXED.gpus[0], index=index, mig_enabled=of_gpu is not None)
        for index, of_gpu in enumerate(profiles)
    )
    devices = tuple(
        replace(
            example, gpu_index=index, index=number, profile=profile, uuid=f"MIG-{index}-{number}"
        )
        for index, of_gpu in enumerate(profiles)
        for number, profile in enumerate(of_gpu or ())
    )
    return replace(MIXED, gpus=gpus, mig_devices=devices)


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

    @pytest.mark.parametrize(
        ("profiles", "reason"),
        [
            ((["1g.5gb"], []), "MIG is enabled on a GPU that has no MIG device"),
            ((["1g.5gb"], None), "MIG is enabled on some of the GPUs only"),
            ((["1g.5gb", "3g.20gb"],), "the MIG devices have different profiles: 1g.5gb, 3g.20gb"),
        ],
        ids=["empty", "partly", "profiles"],
    )
    def test_single_with_another_layout_is_invalid(
        self, profiles: tuple[list[str] | None, ...], reason: str
    ) -> None:
        of, plugin = facts(mig_host(*profiles), A100), replace(DEFAULTS, mig_strategy="single")
        values = made(of, plugin)
        assert values["gpu.product"] == "NVIDIA-A100-SXM4-40GB-MIG-INVALID"
        assert values["gpu.count"] == values["gpu.replicas"] == values["gpu.memory"] == "0"
        assert values["gpu.sharing-strategy"] == ""
        (finding,) = labels_findings(of, LabelSettings(plugin=plugin))
        assert (finding.code, reason in finding.message) == ("CDG-N302", True)

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


class TestValues:
    @pytest.mark.parametrize(
        ("capability", "name"),
        [
            ((1, 3), "tesla"), ((2, 0), "fermi"), ((3, 7), "kepler"), ((5, 2), "maxwell"),
            ((6, 1), "pascal"), ((7, 0), "volta"), ((7, 2), "volta"), ((7, 5), "turing"),
            ((8, 0), "ampere"), ((8, 7), "ampere"), ((8, 9), "ada-lovelace"), ((9, 0), "hopper"),
            ((10, 0), "blackwell"), ((12, 0), "blackwell"), ((13, 0), "rubin"),
            ((4, 0), "undefined"), ((11, 0), "undefined"), ((99, 0), "undefined"),
        ],
    )  # fmt: skip
    def test_families(self, capability: tuple[int, int], name: str) -> None:
        assert family(*capability) == name

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("NVIDIA TITAN X (Pascal)", "NVIDIA-TITAN-X-Pascal"),
            ("  Dell   PowerEdge R750xa ", "Dell-PowerEdge-R750xa"),
            ("Standard PC (i440FX + PIIX, 1996)", "Standard-PC-i440FX-PIIX-1996"),
            ("a_b.c-d", "a_b.c-d"),
            ("Größe", "Gre"),
            ("", ""),
        ],
    )
    def test_characters_that_a_label_cannot_have_are_left_out(self, text: str, value: str) -> None:
        assert sanitised(text) == value

    def test_a_value_begins_and_ends_with_a_letter_or_a_digit(self) -> None:
        assert valid("-.To be filled by O.E.M.") == "To-be-filled-by-O.E.M"
        assert valid("x" * 62 + "--y") == "x" * 62

    def test_a_long_model_is_shortened_and_its_profile_is_not(self) -> None:
        model = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"
        assert joined(model) == "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition"
        value = joined(model, "MIG", "1g.24gb", "SHARED")
        assert value == "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstat-MIG-1g.24gb-SHARED"
        assert len(value) == 63
        assert joined("x" * 51 + " y", "MIG", "1g.24gb") == "x" * 51 + "-MIG-1g.24gb"

    def test_a_shortened_model_is_reported(self) -> None:
        host = inventory("flat-550-1gpu")
        host = replace(host, gpus=(replace(host.gpus[0], model="x" * 64),))
        (finding,) = labels_findings(facts(host), LabelSettings())
        assert finding.code == "CDG-N304"


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("60s", 60), ("1m30s", 90), ("2h", 7200), ("1.5h", 5400), ("300ms", 0.3), (".5s", 0.5)],
    )
    def test_intervals(self, text: str, value: float) -> None:
        assert seconds(text) == pytest.approx(value)

    def test_an_infinite_interval(self) -> None:
        assert seconds("infinite") is None

    @pytest.mark.parametrize("text", ["", "60", "1x", "s", "-1s", "1 s", "0s", "Infinite", "1s1"])
    def test_other_texts_are_no_intervals(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not an interval"):
            seconds(text)

    def test_a_flag_wins_over_the_file(self) -> None:
        file = {"sleep_interval": "30s", "output_file": "/file", "oneshot": True}
        settings = label_settings(DEFAULTS, {"sleep_interval": "5s", "oneshot": None}, file)
        assert (settings.sleep_interval, settings.output_file, settings.oneshot) == (
            5,
            "/file",
            True,
        )
        assert settings.fails_without_gpus, "one shot without devices would be a success"

    @pytest.mark.parametrize(
        ("flags", "api"),
        [
            ({"node_name": "n"}, True),
            ({"output_file": "-"}, False),
            ({"node_feature_api": False}, False),
            ({"node_feature_api": True, "output_file": "/f", "node_name": "n"}, True),
            ({"patch_node": True, "output_file": "/f", "node_name": "n"}, True),
        ],
    )
    def test_where_the_labels_go(self, flags: dict[str, object], api: bool) -> None:
        assert label_settings(DEFAULTS, flags, {}).uses_api is api

    @pytest.mark.parametrize("name", ["", "a/b", "..", "A", "a?x=1", "x" * 254])
    def test_the_api_needs_the_name_of_a_node(self, name: str) -> None:
        with pytest.raises(UsageError, match="name of"):
            label_settings(DEFAULTS, {"node_name": name}, {})
