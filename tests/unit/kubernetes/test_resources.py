# SPDX-License-Identifier: Apache-2.0
"""Which resources a node advertises, and what a container gets for a device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import WSL, CharDevice, Inventory
from cdi_gen.inventory.properties import Properties
from cdi_gen.kubernetes.resources.advertise import advertise
from cdi_gen.kubernetes.resources.allocation import (
    Allocation,
    AllocationError,
    Mount,
    Node,
    allocate,
    imex_channels,
)
from cdi_gen.kubernetes.resources.device import Resource
from cdi_gen.kubernetes.settings import (
    DEFAULTS,
    Imex,
    ResourceRule,
    Settings,
    SharedResource,
    Sharing,
)
from tests.unit.kubernetes.nodes import inventory, properties

HGX = inventory("hgx-550-8gpu")
MIG = inventory("flat-550-mig-mixed")
UUIDS = [gpu.uuid or "" for gpu in HGX.gpus]


def resources(settings: Settings = DEFAULTS, host: Inventory = HGX) -> dict[str, Resource]:
    advertised = advertise(host, properties(host), settings)
    return {resource.name: resource for resource in advertised.resources}


def sharing(*shared: SharedResource, **options: object) -> Settings:
    fields = {"strategy": "time-slicing", "resources": shared} | options
    return replace(DEFAULTS, mps_root="/run/mps", sharing=Sharing(**fields))  # type: ignore[arg-type]


def shared(**options: object) -> SharedResource:
    fields = {"name": "nvidia.com/gpu", "replicas": 2} | options
    return SharedResource(**fields)  # type: ignore[arg-type]


def test_every_gpu_is_a_device_with_its_numa_node() -> None:
    (gpus,) = resources().values()
    assert gpus.name == "nvidia.com/gpu"
    assert [device.id for device in gpus.devices] == UUIDS
    assert [device.numa_node for device in gpus.devices] == [0] * 4 + [1] * 4


class TestMig:
    def test_none_advertises_whole_gpus(self) -> None:
        (gpus,) = resources(host=MIG).values()
        assert len(gpus.devices) == len(MIG.gpus)

    def test_mixed_has_a_resource_for_each_profile(self) -> None:
        found = resources(replace(DEFAULTS, mig_strategy="mixed"), MIG)
        profiles = {mig.profile for mig in MIG.mig_devices}
        names = {f"nvidia.com/mig-{profile.replace('+', '.')}" for profile in profiles}
        whole = {"nvidia.com/gpu"} if any(not gpu.mig_enabled for gpu in MIG.gpus) else set()
        assert found.keys() == names | whole
        ids = [
            device.id for resource in found.values() for device in resource.devices if device.mig
        ]
        assert sorted(ids) == sorted(mig.uuid or "" for mig in MIG.mig_devices)

    def test_single_advertises_the_profile_that_most_devices_have(self) -> None:
        host = _mig_host(["1g.10gb"] * 7, ["1g.10gb"] * 7, ["3g.40gb", "4g.40gb"], None)
        advertised = advertise(host, Properties(), replace(DEFAULTS, mig_strategy="single"))
        (gpus,) = advertised.resources
        assert (gpus.name, len(gpus.devices)) == ("nvidia.com/gpu", 14)
        assert [finding.code for finding in advertised.findings] == ["CDG-N102"] * 2

    def test_a_gpu_without_mig_devices_costs_only_itself(self) -> None:
        host = _mig_host([], ["1g.10gb"])
        advertised = advertise(host, Properties(), replace(DEFAULTS, mig_strategy="mixed"))
        assert [resource.name for resource in advertised.resources] == ["nvidia.com/mig-1g.10gb"]
        (finding,) = advertised.findings
        assert "it has no MIG device" in finding.message

    def test_a_compute_instance_that_is_a_part_of_its_gpu_instance_is_advertised(self) -> None:
        """NVIDIA's plugin ends on such a profile."""
        host = _mig_host(["1c.3g.40gb", "2c.3g.40gb"])
        names = resources(replace(DEFAULTS, mig_strategy="mixed"), host)
        assert names.keys() == {"nvidia.com/mig-1c.3g.40gb", "nvidia.com/mig-2c.3g.40gb"}


def _mig_host(*layouts: list[str] | None) -> Inventory:
    """Return a host with these profiles on its GPUs; None: MIG is not enabled."""
    (example, *_), gpu = MIG.mig_devices, MIG.gpus[0]
    gpus = tuple(
        replace(gpu, index=index, uuid=UUIDS[index], mig_enabled=layout is not None)
        for index, layout in enumerate(layouts)
    )
    devices = tuple(
        replace(
            example,
            gpu_index=index,
            index=number,
            uuid=f"MIG-{index:08x}-0000-0000-0000-{number:012x}",
            profile=profile,
        )
        for index, layout in enumerate(layouts)
        for number, profile in enumerate(layout or ())
    )
    return replace(MIG, gpus=gpus, mig_devices=devices)


class TestSharing:
    def test_a_device_has_replicas(self) -> None:
        (gpus,) = resources(sharing(shared(replicas=10))).values()
        assert len(gpus.devices) == 80
        assert gpus.devices[1].id == f"{UUIDS[0]}::1"
        assert (gpus.sharing, gpus.devices[1].replica, gpus.devices[1].replicas) == (
            "time-slicing", 1, 10,
        )  # fmt: skip

    def test_gpus_can_have_different_numbers_of_replicas(self) -> None:
        first, second = shared(devices=("0", UUIDS[1]), replicas=2), shared(devices=1, replicas=5)
        (gpus,) = resources(sharing(first, second)).values()
        counts = [sum(device.uuid == uuid for device in gpus.devices) for uuid in UUIDS]
        assert counts == [2, 2, 5, 1, 1, 1, 1, 1]

    def test_shared_devices_get_the_new_name_and_the_others_keep_theirs(self) -> None:
        found = resources(sharing(shared(devices=3, rename="nvidia.com/part")))
        assert {name: len(resource.devices) for name, resource in found.items()} == {
            "nvidia.com/gpu": 5, "nvidia.com/part": 6,
        }  # fmt: skip
        assert found["nvidia.com/gpu"].sharing == "none"

    def test_rename_by_default(self) -> None:
        assert resources(sharing(shared(), rename_by_default=True)).keys() == {
            "nvidia.com/gpu.shared"
        }

    def test_mps_shares_no_mig_device(self) -> None:
        settings = replace(
            sharing(shared(name="nvidia.com/mig-1g.10gb"), strategy="mps"), mig_strategy="mixed"
        )
        host = _mig_host(["1g.10gb"])
        advertised = advertise(host, Properties(), settings)
        assert [device.replica for device in advertised.resources[0].devices] == [None]
        assert [finding.code for finding in advertised.findings] == ["CDG-N103"]


def test_rules_divide_gpus_by_their_model() -> None:
    rules = (ResourceRule(pattern="*A100*", name="nvidia.com/a100"), *DEFAULTS.gpu_rules)
    model = HGX.gpus[0].model
    rules = (ResourceRule(pattern=model[:8] + "*", name="nvidia.com/big"), *rules)
    assert resources(replace(DEFAULTS, gpu_rules=rules)).keys() == {"nvidia.com/big"}
    found = advertise(HGX, properties(HGX), replace(DEFAULTS, gpu_rules=()))
    assert not found.resources
    assert len(found.findings) == 8


def test_wsl_has_one_device_for_all_gpus() -> None:
    (gpus,) = resources(host=replace(HGX, platform=WSL)).values()
    assert [device.id for device in gpus.devices] == ["all"]


class TestAllocate:
    NODE = Node(control_nodes=("/dev/nvidiactl", "/dev/nvidia-uvm"), cdi_transports=("gds",))

    def allocate(self, *ids: str, settings: Settings = DEFAULTS) -> Allocation:
        (resource,) = resources(settings).values()
        return allocate(ids, resource, settings, self.NODE, request_id=lambda: "1")

    def allocation(self, strategy: str, **options: object) -> dict[str, object]:
        settings = replace(DEFAULTS, list_strategies=tuple(strategy.split(",")), **options)  # type: ignore[arg-type]
        (resource,) = resources(settings).values()
        answer = allocate(UUIDS[:2], resource, settings, self.NODE, request_id=lambda: "1")
        return {
            name: value for name in answer.__dataclass_fields__ if (value := getattr(answer, name))
        }

    def test_cdi_names(self) -> None:
        names = tuple(f"k8s.device-plugin.nvidia.com/gpu={uuid}" for uuid in UUIDS[:2])
        assert self.allocation("cdi-cri") == {"cdi_devices": names}
        assert self.allocation("cdi-annotations") == {
            "annotations": {"cdi.k8s.io/nvidia-device-plugin_1": ",".join(names)}
        }
        assert self.allocation("cdi-cri", id_strategy="index") == {
            "cdi_devices": tuple(f"k8s.device-plugin.nvidia.com/gpu={n}" for n in (0, 1))
        }

    def test_variable_and_mounts(self) -> None:
        assert self.allocation("envvar") == {
            "envs": {"NVIDIA_VISIBLE_DEVICES": ",".join(UUIDS[:2])}
        }
        root = "/var/run/nvidia-container-devices"
        assert self.allocation("volume-mounts") == {
            "envs": {"NVIDIA_VISIBLE_DEVICES": root},
            "mounts": tuple(
                Mount("/dev/null", f"{root}/{uuid}", read_only=False) for uuid in UUIDS[:2]
            ),
        }

    def test_device_nodes_are_those_of_the_host(self) -> None:
        nodes = self.allocation("envvar", pass_device_specs=True, driver_root="/run/driver")[
            "nodes"
        ]
        paths = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1")
        assert nodes == tuple((f"/run/driver{path}", path) for path in paths)

    def test_transports_and_channels_that_the_host_has(self) -> None:
        settings = replace(DEFAULTS, gds=True, mofed=True)
        (resource,) = resources(settings).values()
        node = replace(self.NODE, imex_channels=(0,))
        answer = allocate(UUIDS[:2], resource, settings, node)
        assert answer.envs == {"NVIDIA_GDS": "enabled", "NVIDIA_MOFED": "enabled"}
        names = [name.partition("/")[2] for name in answer.cdi_devices[2:]]
        assert names == ["imex-channel=0", "gds=all"], "no mofed: the host has no such device"

    def test_replicas_of_a_gpu_give_the_gpu_once(self) -> None:
        settings = sharing(shared())
        answer = self.allocate(f"{UUIDS[0]}::1", f"{UUIDS[0]}::0", settings=settings)
        assert answer.cdi_devices == (f"k8s.device-plugin.nvidia.com/gpu={UUIDS[0]}",)

    def test_sharing_is_visible_in_the_environment(self) -> None:
        answer = self.allocate(f"{UUIDS[0]}::1", settings=sharing(shared(replicas=3)))
        assert answer.envs == {
            "NVIDIA_GPU_SHARING_STRATEGY": "time-slicing",
            "NVIDIA_GPU_REPLICAS": "3",
        }

    def test_a_whole_gpu_beside_shared_ones_is_not_shared(self) -> None:
        settings = sharing(shared(devices=1), strategy="mps")
        assert self.allocate(UUIDS[1], settings=settings) == Allocation(
            cdi_devices=(f"k8s.device-plugin.nvidia.com/gpu={UUIDS[1]}",)
        )

    def test_an_unknown_id_is_refused(self) -> None:
        with pytest.raises(AllocationError, match="has no device 'GPU-x'"):
            self.allocate(UUIDS[0], "GPU-x")

    def test_more_than_one_shared_device_is_refused_if_settings_say_so(self) -> None:
        settings = sharing(shared(), fail_requests_greater_than_one=True)
        self.allocate(f"{UUIDS[0]}::0", settings=settings)
        with pytest.raises(AllocationError, match=r"may request one .* and requests 2"):
            self.allocate(f"{UUIDS[0]}::0", f"{UUIDS[1]}::0", settings=settings)


class TestImex:
    CHANNEL = CharDevice(path="/dev/nvidia-caps-imex-channels/channel0", major=500, minor=0)
    SETTINGS = replace(DEFAULTS, imex=Imex(channel_ids=(0,)))

    def test_a_channel_that_the_host_has(self) -> None:
        host = replace(HGX, transport_nodes=(self.CHANNEL,))
        assert imex_channels(host, self.SETTINGS) == (0,)
        assert imex_channels(host, DEFAULTS) == ()

    @pytest.mark.parametrize("nodes", [(), (replace(CHANNEL, present=False),)])
    def test_a_channel_that_the_host_lacks(self, nodes: tuple[CharDevice, ...]) -> None:
        """A name that the spec does not have would keep every container from starting."""
        host = replace(HGX, transport_nodes=nodes)
        assert imex_channels(host, self.SETTINGS) == ()
        required = replace(DEFAULTS, imex=Imex(channel_ids=(0,), required=True))
        with pytest.raises(CdiGenError, match="lacks the IMEX channel"):
            imex_channels(host, required)
