# SPDX-License-Identifier: Apache-2.0
"""Properties of GPUs by which a scheduler chooses, from sysfs and from the mock of NVML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdi_gen.host.devices import nvml_properties
from cdi_gen.host.devices.nvml_properties import NvmlProperties
from cdi_gen.host.devices.vgpu import ConfigurationIncompleteError, HostDriver, host_driver
from cdi_gen.inventory.properties import MigProperties, Properties
from cdi_gen.kubernetes.probe import Facts
from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_mock import DESCRIPTION
from tests.host import looking

GetHost = Callable[[str], FakeHost]


def properties(fake: FakeHost, description: Path | None = None) -> Properties:
    """The properties of a fake host, asked by a process of its own, as the probe is.

    Args:
        fake: the host.
        description: what the mock of NVML answers from; None: the host's own.
    """
    where = {"host_root": str(fake.root), "driver_root": looking.driver_root_of(fake)}
    where |= {"library_search_path": [], "config_search_path": []}  # type: ignore[dict-item]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": looking.SOURCES}
    if description is not None:
        environment["NVML_MOCK_HOST"] = str(description)
    done = subprocess.run(
        [sys.executable, "-m", "cdi_gen.kubernetes.probe"],
        input=json.dumps(where),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return Facts.of(json.loads(done.stdout)).properties


def described(fake: FakeHost, file: Path, *lines: str, without: str = "\0") -> Path:
    """Write a description of a host for the mock: its own, with other lines."""
    own = (fake.nvml.parent / DESCRIPTION).read_text().splitlines()
    file.write_text("\n".join([*(line for line in own if not line.startswith(without)), *lines]))
    return file


def links(values: Properties) -> dict[tuple[int, int], tuple[str, int]]:
    return {(link.first, link.second): (link.pcie, link.nvlinks) for link in values.links}


def test_properties_of_gpus(host: GetHost) -> None:
    values = properties(host("550-hgx"))
    assert values.cuda_version == "12.4"
    assert values.machine is None
    assert values.vgpu is None, "the fake host has the first 64 bytes of the configuration space"
    gpu = values.gpu(5)
    assert (gpu.product, gpu.memory_mib) == ("NVIDIA H100 80GB HBM3", 81559)
    assert (gpu.compute_capability, gpu.mig_capable) == ("9.0", True)
    assert (gpu.numa_node, gpu.pci_class) == (1, 0x0302)
    assert (gpu.fabric_cluster, gpu.fabric_clique) == (None, None)


def test_a_model_without_mig_is_not_capable_of_it(host: GetHost) -> None:
    values = properties(host("550-lib64"))
    assert [gpu.mig_capable for gpu in values.gpus] == [False, False]
    assert values.gpu(0).pci_class == 0x0300


def test_gpus_at_nvswitches_are_linked_by_all_their_links(host: GetHost) -> None:
    pairs = links(properties(host("550-hgx")))
    assert len(pairs) == 28
    assert pairs[0, 1] == ("node", 18)
    assert pairs[3, 4] == ("system", 18)


def test_nvlinks_between_gpus_are_counted_for_each_pair(host: GetHost, tmp_path: Path) -> None:
    fake = host("550-debian")
    addresses = [f"0000{gpu.pci_address.upper()}" for gpu in fake.kernel.gpus]
    lines = [
        *(f"nvlink 0 {link} 0 {addresses[1]}" for link in (0, 3)),
        *(f"nvlink 1 {link} 0 {addresses[0]}" for link in (1, 2)),
        f"nvlink 0 5 0 {addresses[2]}",
        f"nvlink 2 5 0 {addresses[0]}",
        "nvlink 3 0 1 00000000:AA:00.0",  # an IBM processor
        "nvlink 4 0 2 00000000:05:00.0",  # a switch that no other GPU has a link to
        "topology 0 1 0",
        "topology 0 2 10",
        "topology 0 3 20",
        "topology 0 4 30",
        "topology 1 2 99",  # a level that this version does not know
    ]
    pairs = links(properties(fake, described(fake, tmp_path / "nvml", *lines)))
    assert pairs[0, 1] == ("internal", 2)
    assert pairs[0, 2] == ("single-switch", 1)
    assert pairs[0, 3] == ("multiple-switches", 0)
    assert pairs[0, 4] == ("host-bridge", 0)
    assert (1, 2) not in pairs


def test_attributes_of_mig_devices(host: GetHost) -> None:
    fake = host("550-mig-mixed")
    values = properties(fake)
    assert [mig.uuid for mig in values.mig_devices] == [
        mig.uuid for gpu in fake.kernel.gpus for mig in gpu.mig
    ]
    assert values.mig_devices[-1] == MigProperties(
        uuid="MIG-ab100001-c0de-6009-8000-000000003010",
        memory_mib=4864,
        multiprocessors=16,
        gpu_instance_slices=1,
        compute_instance_slices=1,
        copy_engines=1,
        decoders=0,
        encoders=0,
        jpeg_engines=0,
        ofa_engines=0,
    )


def test_gpus_in_an_nvlink_fabric(host: GetHost, tmp_path: Path) -> None:
    fake = host("550-debian")
    cluster = "0123456789abcdef0123456789abcdef"
    lines = [f"fabric 0 {cluster} 7 3", f"fabric 1 {cluster} 7 2", f"fabric 2 {'0' * 32} 7 3"]
    values = properties(fake, described(fake, tmp_path / "nvml", *lines))
    gpu = values.gpu(0)
    assert (gpu.fabric_cluster, gpu.fabric_clique) == ("01234567-89ab-cdef-0123-456789abcdef", 7)
    assert values.gpu(1).fabric_cluster is None, "the GPU is still being added to the fabric"
    assert values.gpu(2).fabric_cluster is None, "a fabric of one machine has no cluster"


class FailingNvml:
    """pynvml of a host with two GPUs, where some functions fail."""

    class NVMLError(Exception):
        value = 999

    def __init__(self, failing: str, missing: str = "") -> None:
        self._failing = failing
        self._missing = missing

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name == self._missing or name not in RESULTS:
            raise AttributeError(name)

        def call(*_: object) -> object:
            if name == self._failing:
                raise self.NVMLError
            return RESULTS[name]

        return call


RESULTS: dict[str, object] = {
    "nvmlDeviceGetName": b"NVIDIA H200",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=143771 << 20),
    "nvmlDeviceGetCudaComputeCapability": (9, 0),
    "nvmlDeviceGetMigMode": (0, 0),
    "nvmlSystemGetCudaDriverVersion_v2": 13010,
    "nvmlDeviceGetTopologyCommonAncestor": 40,
    "nvmlDeviceGetNvLinkState": 1,
    "nvmlDeviceGetNvLinkRemoteDeviceType": 2,
}
WHOLE = NvmlProperties(
    product="NVIDIA H200", memory_mib=143771, compute_capability="9.0", mig_capable=True
)


@pytest.mark.parametrize("how", ["failing", "missing"])
@pytest.mark.parametrize(
    ("function", "lost"),
    [
        ("nvmlDeviceGetName", {"product": None}),
        ("nvmlDeviceGetMemoryInfo", {"memory_mib": None}),
        ("nvmlDeviceGetCudaComputeCapability", {"compute_capability": None}),
        ("nvmlDeviceGetMigMode", {"mig_capable": None}),
        ("nvmlSystemGetCudaDriverVersion_v2", {}),
    ],
)
def test_a_call_that_fails_costs_only_its_value(
    how: str, function: str, lost: dict[str, None]
) -> None:
    calls = nvml_properties._Nvml(FailingNvml(**{"failing": "", how: function}))
    assert calls.properties(object()) == WHOLE._replace(**lost)
    cuda = None if function == "nvmlSystemGetCudaDriverVersion_v2" else "13.1"
    assert calls.cuda_version() == cuda


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("nvmlDeviceGetTopologyCommonAncestor", []),
        ("nvmlDeviceGetNvLinkState", [("node", 0)]),
        ("nvmlDeviceGetNvLinkRemoteDeviceType", [("node", 0)]),
        ("", [("node", 36)]),
    ],
)
def test_a_link_whose_calls_fail_is_left_out(
    function: str, expected: list[tuple[str, int]]
) -> None:
    calls = nvml_properties._Nvml(FailingNvml(function))
    pairs = calls.links({0: "first", 1: "second"}, ())
    assert [(link.pcie, link.nvlinks) for link in pairs] == expected


def test_a_failing_nvml_costs_its_values_and_not_those_of_sysfs(
    host: GetHost, tmp_path: Path
) -> None:
    fake = host("550-lib64")
    values = properties(fake, described(fake, tmp_path / "nvml", "init 999", without="init"))
    assert (values.cuda_version, values.links, values.gpu(0).product) == (None, (), None)
    assert values.gpu(0).pci_class == 0x0300


def test_the_machine_and_a_vgpu(own_host: GetHost) -> None:
    fake = own_host("550-lib64")
    dmi = fake.root / "sys/class/dmi/id/product_name"
    dmi.parent.mkdir(parents=True)
    dmi.write_text("PowerEdge R750xa\n")
    first, second = (
        fake.root / f"sys/bus/pci/devices/{gpu.pci_address}/config" for gpu in fake.kernel.gpus
    )
    first.write_bytes(configuration(capability(VGPU)))
    second.write_bytes(configuration(b""))
    values = properties(fake)
    assert values.machine == "PowerEdge R750xa"
    assert values.vgpu is True
    assert values.vgpu_host_driver_version == "460.16"
    assert values.vgpu_host_driver_branch == "r460_00"


VGPU = b"VF" + bytes([0, 22]) + b"460.16\0\0\0\0" + b"r460_00\0\0\0"
"""The content of the capability of a vGPU: a signature, and a record of 22 bytes."""


def capability(content: bytes) -> bytes:
    return bytes([0x09, 0, 3 + len(content)]) + content


def configuration(vendor_capability: bytes, *, first: int = 0x68, flag: int = 0x10) -> bytes:
    """A PCI configuration space with a capability of power management and one of the vendor."""
    space = bytearray(256)
    space[0x06] = flag
    space[0x34] = 0x50
    space[0x50:0x53] = bytes([0x01, first, 8])
    space[first : first + len(vendor_capability)] = vendor_capability
    return bytes(space)


class TestVgpu:
    def test_the_host_driver_of_a_vgpu(self) -> None:
        driver = host_driver(configuration(capability(VGPU)))
        assert driver == HostDriver("460.16", "r460_00")

    def test_a_record_before_that_of_the_driver_is_skipped(self) -> None:
        content = b"VF" + bytes([7, 4, 1, 2]) + VGPU[2:]
        assert host_driver(configuration(capability(content))) == HostDriver("460.16", "r460_00")

    @pytest.mark.parametrize(
        "content",
        [b"VF", b"VF\x00", b"VF\x00\x16460", b"VF\x07\x00" + VGPU[2:], b"VF\x07\xff\x01"],
        ids=["none", "cut", "short", "loop", "beyond"],
    )
    def test_a_vgpu_whose_records_are_damaged_names_no_driver(self, content: bytes) -> None:
        assert host_driver(configuration(capability(content))) == HostDriver()

    @pytest.mark.parametrize(
        "space",
        [
            configuration(b""),
            configuration(capability(b"XX" + VGPU[2:])),
            configuration(capability(VGPU), flag=0),
            configuration(bytes([0x05, 0x68, 8])),
            configuration(bytes([0xFF, 0x50, 8])),
            configuration(capability(VGPU)[:2], first=254),
            b"\xff" * 256,
        ],
        ids=["none", "signature", "no list", "loop", "gap", "end", "off the bus"],
    )
    def test_other_devices_are_not_vgpus(self, space: bytes) -> None:
        assert host_driver(space) is None

    def test_an_incomplete_configuration_space_is_an_error(self) -> None:
        with pytest.raises(ConfigurationIncompleteError, match="64 bytes"):
            host_driver(configuration(capability(VGPU))[:64])
